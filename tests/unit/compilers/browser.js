// Just enough of a browser to run the script of the page: `node browser.js`, the page's parts and
// what to do as JSON on standard input, what was sent and shown as JSON on standard output.
"use strict";
const {data, script, steps, answers} = JSON.parse(require("fs").readFileSync(0, "utf8"));

class Element {
  constructor(tag) { this.tag = tag; this.children = []; this.listeners = {}; this.value = ""; this.className = ""; this.own = ""; }
  append(child) { this.children.push(child); }
  replaceChildren(...children) { this.children = children; }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  click() { return this.listeners.click(); }
  set textContent(text) { this.own = text; this.children = []; }
  get textContent() { return this.own + this.children.map(child => child.textContent).join("|"); }
}

const elements = {};
for (const id of ["title", "one", "ask-one", "many", "ask-many", "answer", "data"]) {
  elements[id] = new Element("div");
}
elements.data.textContent = data;
const created = [];
global.document = {
  createElement: tag => { const made = new Element(tag); created.push(made); return made; },
  getElementById: id => elements[id] || created.find(each => each.id === id),
};
const sent = [];
global.fetch = async (url, options) => {
  sent.push({url, method: options.method, body: options.body});
  const [status, content] = answers[sent.length - 1];
  return {ok: status === 200, status, json: async () => content};
};

(async () => {
  (0, eval)(script);
  const shown = [];
  for (const step of steps) {
    for (const [id, value] of Object.entries(step.fill || {})) document.getElementById(id).value = value;
    document.getElementById(step.click).click();
    await new Promise(done => setTimeout(done, 5));
    shown.push(elements.answer.textContent);
  }
  const wrong = created.filter(each => each.className === "wrong").map(each => each.id);
  process.stdout.write(JSON.stringify({sent, shown, wrong, title: elements.title.textContent,
    form: elements.one.textContent, many: elements.many.value}));
})();
