// Markdown as models write it, and code with its words in colour. Everything becomes DOM nodes with
// textContent: no text of a model is ever read as HTML.

const WORDS = new Set(`abstract as assert async await auto bool boolean break case catch char class const
constexpr continue def default del delete do double elif else enum except export extends extern false
False final finally float fn for from func function global go if impl implements import in inline int
interface is lambda let long match mut namespace new None nil not null or and override package pass
print private protected pub public raise return self short signed sizeof static std string struct super
switch template this throw trait True true try type typedef typename union unsigned use using var
virtual void where while with yield select insert update from join group order by`.split(/\s+/));
const HASH_COMMENTS = /^(py|python|sh|bash|shell|rb|ruby|yaml|yml|toml|r|perl|make|makefile|dockerfile|cmake)$/i;
const DASH_COMMENTS = /^(sql|lua|haskell|hs)$/i;

function node(name, text, className) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

export function highlight(code, language) {
  const comment = HASH_COMMENTS.test(language) ? "#[^\\n]*"
    : DASH_COMMENTS.test(language) ? "--[^\\n]*" : "//[^\\n]*|/\\*[\\s\\S]*?(?:\\*/|$)";
  const token = new RegExp(
    `(${comment})|("""[\\s\\S]*?(?:"""|$)|"(?:\\\\.|[^"\\\\\\n])*"?|'(?:\\\\.|[^'\\\\\\n])*'?|\`(?:\\\\.|[^\`\\\\])*\`?)` +
    "|\\b(\\d[\\w.]*)|([A-Za-z_][\\w]*)", "g");
  const result = document.createDocumentFragment();
  let end = 0;
  for (const match of code.matchAll(token)) {
    const kind = match[1] !== undefined ? "comment" : match[2] !== undefined ? "string"
      : match[3] !== undefined ? "number" : WORDS.has(match[4]) ? "word" : "";
    if (!kind) continue;
    result.append(code.slice(end, match.index), node("span", match[0], "hl-" + kind));
    end = match.index + match[0].length;
  }
  result.append(code.slice(end));
  return result;
}

function inline(text, parent) {
  const token = /(`+)([\s\S]*?[^`])\1(?!`)|\*\*([\s\S]+?)\*\*|(?<![\w*])\*([^\s*][^*]*?)\*(?![\w*])|(?<!\w)_([^\s_][^_]*?)_(?!\w)|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/g;
  let end = 0;
  for (const match of text.matchAll(token)) {
    parent.append(text.slice(end, match.index));
    end = match.index + match[0].length;
    if (match[2] !== undefined) {
      parent.append(node("code", match[2].trim()));
    } else if (match[7] !== undefined) {
      const link = node("a", match[6]);
      link.href = match[7];
      link.rel = "noopener noreferrer";
      link.target = "_blank";
      parent.append(link);
    } else {
      const element = node(match[3] !== undefined ? "strong" : "em");
      inline(match[3] ?? match[4] ?? match[5], element);
      parent.append(element);
    }
  }
  parent.append(text.slice(end));
}

function withInline(name, text) {
  const element = node(name);
  inline(text, element);
  return element;
}

const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;

// Items from `at` on, nested by indentation; returns the list and where it ends.
function list(lines, at, indent) {
  const ordered = /\d/.test(ITEM.exec(lines[at])[2]);
  const result = node(ordered ? "ol" : "ul");
  let item = null;
  while (at < lines.length) {
    const match = ITEM.exec(lines[at]);
    if (match && match[1].length > indent + 1 && item) {
      const [inner, next] = list(lines, at, match[1].length);
      item.append(inner);
      at = next;
    } else if (match && match[1].length >= indent && match[1].length <= indent + 1) {
      item = withInline("li", match[3]);
      result.append(item);
      ++at;
    } else if (!match && lines[at].trim() && item && /^\s/.test(lines[at])) {
      inline(" " + lines[at].trim(), item);
      ++at;
    } else {
      break;
    }
  }
  return [result, at];
}

function cells(line) {
  return line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
}

function table(lines, at) {
  const result = node("table");
  const add = (line, kind) => {
    const row = node("tr");
    for (const cell of cells(line)) row.append(withInline(kind, cell));
    result.append(row);
  };
  add(lines[at], "th");
  for (at += 2; at < lines.length && lines[at].includes("|"); ++at) add(lines[at], "td");
  const scroll = node("div", undefined, "scroll");
  scroll.append(result);
  return [scroll, at];
}

export function markdown(text) {
  const result = document.createDocumentFragment();
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const fence = /^\s*(```+|~~~+)\s*([\w+#.-]*)/.exec(line);
    const heading = /^(#{1,6})\s+(.*?)#*$/.exec(line);
    if (fence) {
      const begin = ++at;
      while (at < lines.length && !lines[at].trim().startsWith(fence[1])) ++at;
      const code = node("code");
      code.append(highlight(lines.slice(begin, at).join("\n"), fence[2]));
      const block = node("pre");
      block.append(code);
      result.append(block);
      ++at;
    } else if (!line.trim()) {
      ++at;
    } else if (heading) {
      result.append(withInline("h" + Math.min(6, heading[1].length + 2), heading[2]));
      ++at;
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      result.append(node("hr"));
      ++at;
    } else if (ITEM.test(line)) {
      const [element, next] = list(lines, at, ITEM.exec(line)[1].length);
      result.append(element);
      at = next;
    } else if (/^\s*>/.test(line)) {
      const quoted = [];
      for (; at < lines.length && /^\s*>/.test(lines[at]); ++at) quoted.push(lines[at].replace(/^\s*> ?/, ""));
      const quote = node("blockquote");
      quote.append(markdown(quoted.join("\n")));
      result.append(quote);
    } else if (line.includes("|") && /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)+\|?\s*$/.test(lines[at + 1] ?? "")) {
      const [element, next] = table(lines, at);
      result.append(element);
      at = next;
    } else {
      const paragraph = [];
      for (; at < lines.length && lines[at].trim() && !/^\s*(```|~~~|#{1,6}\s|>)/.test(lines[at]) && (paragraph.length === 0 || !ITEM.test(lines[at])); ++at) {
        paragraph.push(lines[at]);
      }
      result.append(withInline("p", paragraph.join("\n")));
    }
  }
  return result;
}
