// A number over time, as a line that moves to the left.

const KEPT = 350; // steps: ten seconds of Doom
const EDGE = 4; // pixels above and below

export class Trace {
  /**
   * `colour` is a variable of style.css. `marks` are values to draw a line at, with what to call them; the first is the
   * bottom and the last the top. Without any, both follow the values. `bent` makes room for small values.
   */
  constructor(canvas, colour, marks = [], bent = (value) => value) {
    this.canvas = canvas;
    this.colour = colour;
    this.marks = marks;
    this.bent = bent;
    this.clear();
  }

  clear() {
    this.values = [];
    this.draw();
  }

  add(value) {
    this.values.push(value);
    if (this.values.length > KEPT) this.values.shift();
    this.draw();
  }

  draw() {
    const { canvas, values, marks, bent } = this;
    const scale = window.devicePixelRatio || 1;
    const wide = canvas.clientWidth;
    const high = canvas.clientHeight;
    canvas.width = wide * scale;
    canvas.height = high * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const bottom = bent(marks.length ? marks[0][0] : Math.min(...values, 0));
    const top = bent(marks.length ? marks.at(-1)[0] : Math.max(...values, 1e-6));
    const y = (value) => high - EDGE - ((bent(value) - bottom) / (top - bottom)) * (high - 2 * EDGE);
    const style = getComputedStyle(canvas);
    pen.fillStyle = style.getPropertyValue("--quiet");
    pen.strokeStyle = style.getPropertyValue("--line");
    pen.font = "10px system-ui, sans-serif";
    for (const [value, name] of marks.length ? marks : [[0, ""]]) {
      pen.strokeRect(0, y(value), wide, 0);
      pen.fillText(name, 4, y(value) + (value === marks.at(-1)?.[0] ? 10 : -2));
    }
    pen.strokeStyle = style.getPropertyValue(this.colour);
    pen.lineWidth = 2;
    pen.beginPath();
    values.forEach((value, at) => pen.lineTo(wide - ((values.length - 1 - at) * wide) / KEPT, y(value)));
    pen.stroke();
  }
}
