// Draws the Mermaid diagrams of a page, and draws them again when the reader changes between light and dark.

const page = document.documentElement;
const diagrams = [...document.querySelectorAll('pre.mermaid')].map((element) => ({ element, text: element.textContent }));

async function draw() {
  const theme = page.dataset.bsTheme === 'dark' ? 'dark' : 'neutral';
  mermaid.initialize({ startOnLoad: false, theme });
  for (const { element, text } of diagrams) {
    element.textContent = text;
    delete element.dataset.processed;
  }
  await mermaid.run({ nodes: diagrams.map(({ element }) => element) });
}

let drawing = draw();
new MutationObserver(() => {
  drawing = drawing.then(draw);
}).observe(page, { attributeFilter: ['data-bs-theme'] });
