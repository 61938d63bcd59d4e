/** One message of an event stream. */
export interface Message {
  event: string;
  data: string;
  /** The last id of the stream, also if this message has none. */
  id: string;
}

/** Takes the text of a stream in pieces, and returns the messages that are complete. */
export interface SseParser {
  (text: string): Message[];
  /** The time that the server asks a client to wait before it reconnects, in milliseconds. */
  retry: number;
}

/** Parses an event stream (WHATWG HTML, 9.2.6). */
export const createParser = (): SseParser => {
  let rest = '';
  let afterReturn = false;
  let event = '';
  let id = '';
  let data: string[] = [];

  const parse: SseParser = (text) => {
    const messages: Message[] = [];
    // A line may end with CR LF, and the two may come in different pieces.
    if (!text) return messages;
    if (afterReturn && text[0] === '\n') text = text.slice(1);
    afterReturn = text.endsWith('\r');
    const lines = (rest + text).split(/\r\n|\n|\r/);
    rest = lines.pop()!;
    for (const line of lines) {
      const [, name, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line)!;
      if (name === 'data') data.push(value);
      else if (name === 'event') event = value;
      else if (name === 'id' && !value.includes('\0')) id = value;
      else if (name === 'retry' && /^\d+$/.test(value)) parse.retry = +value;
      else if (!line) {
        if (data.length) messages.push({ event: event || 'message', data: data.join('\n'), id });
        event = '';
        data = [];
      }
    }
    return messages;
  };
  parse.retry = 0;
  return parse;
};
