// The line to the server: requests go out as JSON, messages come back as bytes (page/messages.py).

/** Opens it. `heard(head, pictures, rest)` is called with every message, `closed(why)` when it ends. */
export function open(heard, closed) {
  const socket = new WebSocket(`ws://${location.host}/play`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = (event) => heard(...unpacked(event.data));
  socket.onclose = (event) => closed(event.reason || "The server is gone. Start it again, then load this page anew.");
  return {
    ask(what, more = {}) {
      if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ do: what, ...more }));
    },
  };
}

/** A message's head, its pictures as ImageData by name, and the bytes after them. */
function unpacked(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  let at = 4 + size;
  const pictures = {};
  for (const { name, width, height } of head.blobs) {
    const pixels = new Uint8ClampedArray(buffer, at, 4 * width * height);
    pictures[name] = new ImageData(pixels, width, height);
    at += pixels.length;
  }
  return [head, pictures, new Uint8Array(buffer, at)];
}
