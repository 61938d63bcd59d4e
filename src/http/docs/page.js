'use strict';

// Relative, so that the page also works where a proxy serves it below a path.
const openapi = new URL('../openapi.json', document.baseURI).pathname;

window.ui = SwaggerUIBundle({
  url: openapi,
  dom_id: '#swagger-ui',
  deepLinking: true,
  persistAuthorization: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  presets: [SwaggerUIBundle.presets.apis],
  layout: 'BaseLayout',
});
