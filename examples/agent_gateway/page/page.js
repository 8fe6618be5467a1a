// The page of the agent gateway. The token lives in one variable of this tab: in no storage, no cookie and no address.
// All text from outside gets in as text, never as markup.
"use strict";

const $ = (id) => document.getElementById(id);
let token = null;
let conversation = null;
let running = null; // what stops the turn that is under way

async function ask(method, path, body, signal) {
  const headers = { Authorization: `Bearer ${token}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const sent = body === undefined ? undefined : JSON.stringify(body);
  return fetch(path, { method, headers, body: sent, signal, credentials: "omit", redirect: "error" });
}

async function refusal(response) {
  let detail = "";
  try {
    detail = (await response.json()).detail;
  } catch {
    // not JSON: the status has to do
  }
  const words = {
    401: "The gateway does not know you (401).",
    403: "Your token does not allow this (403).",
    413: "That is too long (413).",
    502: "The agent's model did not answer (502).",
    503: "The gateway cannot check your token right now (503).",
  };
  return [words[response.status] || `That did not work (${response.status}).`, detail].filter(Boolean).join(" ");
}

function say(element, text, kind) {
  element.textContent = text;
  element.className = kind || "";
}

const UNREACHABLE = "The gateway cannot be reached.";

// -- who you are

function cleaned(text) {
  return text.trim().replace(/^Authorization:\s*/i, "").replace(/^Bearer\s+/i, "");
}

async function signIn(given) {
  signOut();
  // What could not stand in a header is no token, and fetch would say so in its own words.
  if (!/^[\x21-\x7e]+$/.test(given)) return say($("sign-in-error"), "That is not a token.", "refusal");
  token = given;
  try {
    const response = await ask("GET", "/me");
    if (!response.ok) {
      token = null;
      return say($("sign-in-error"), await refusal(response), "refusal");
    }
    const me = await response.json();
    if (token !== given) return; // another one was given meanwhile
    showCaller(me);
  } catch {
    token = null;
    return say($("sign-in-error"), UNREACHABLE, "refusal");
  }
  await showOrders();
  $("message").focus();
}

function showCaller(me) {
  const until = me.expires_at === null ? "never" : new Date(me.expires_at * 1000).toLocaleString();
  const facts = {
    Subject: me.subject,
    Roles: me.roles.join(", ") || "none",
    Scopes: me.scopes.join(", ") || "none",
    "Tools of your agent": me.tools.join(", ") || "none",
    "Good until": until,
  };
  $("facts").replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => {
      const term = document.createElement("dt");
      const description = document.createElement("dd");
      term.textContent = name;
      description.textContent = value;
      return [term, description];
    }),
  );
  $("badge").textContent = me.roles.join(", ") || "no role";
  $("badge").hidden = $("known").hidden = false;
  $("sign-in").hidden = true;
}

function signOut() {
  if (running) running.abort();
  token = null;
  startAnew();
  $("token").value = $("file").value = "";
  $("sign-in").hidden = false;
  $("badge").hidden = $("known").hidden = true;
  $("facts").replaceChildren();
  $("orders").replaceChildren();
  $("refund").textContent = "Refund an order";
  say($("orders-note"), "Give a token to see them.", "hint");
  say($("sign-in-error"), "", "refusal");
  say($("reload-note"), "");
}

// -- orders and policy

async function showOrders() {
  const mine = token;
  let orders;
  try {
    const response = await ask("GET", "/orders");
    if (!response.ok) return say($("orders-note"), await refusal(response), "refusal");
    ({ orders } = await response.json());
  } catch {
    return say($("orders-note"), UNREACHABLE, "refusal");
  }
  if (token !== mine) return; // forgotten meanwhile: these are somebody else's by now
  say($("orders-note"), orders.length ? "" : "None yet.", "hint");
  $("orders").replaceChildren(
    ...orders.map((order) => {
      const line = document.createElement("li");
      const id = document.createElement("code");
      id.textContent = order.id;
      line.append(`${order.item}, ${order.price}, ${order.status} `, id);
      return line;
    }),
  );
  if (orders.length) $("refund").textContent = `Refund order ${orders[0].id}`;
}

async function reload() {
  if (token === null) return say($("reload-note"), "Give a token first.", "refusal");
  try {
    const response = await ask("POST", "/admin/reload");
    if (!response.ok) return say($("reload-note"), await refusal(response), "refusal");
    say($("reload-note"), "The policy was read anew.", "done");
  } catch {
    say($("reload-note"), UNREACHABLE, "refusal");
  }
}

// -- the conversation

function entry(by, text, kind) {
  const line = document.createElement("li");
  const name = document.createElement("span");
  const words = document.createElement("span");
  const used = document.createElement("span");
  name.className = "by";
  name.textContent = by;
  words.textContent = text;
  used.className = "used";
  line.className = kind;
  line.append(name, words, used);
  $("log").append(line);
  line.scrollIntoView({ block: "nearest" });
  return { line, name, words, used };
}

function startAnew() {
  if (running) running.abort();
  conversation = null;
  $("log").replaceChildren();
}

async function turn(message) {
  if (token === null) return entry("Gateway", "Give a token first.", "bad");
  entry("You", message, "mine");
  const answer = entry("Agent", "…", "theirs");
  const mine = (running = new AbortController());
  busy(true);
  try {
    const body = conversation === null ? { message } : { message, conversation };
    const response = await ask("POST", "/chat/stream", body, mine.signal);
    if (response.ok) await follow(response, answer);
    else refuse(answer, await refusal(response));
  } catch (error) {
    refuse(answer, error.name === "AbortError" ? "Stopped." : "The connection to the gateway was lost.");
  } finally {
    if (running === mine) {
      running = null;
      busy(false);
    }
  }
  if (token !== null) await showOrders();
}

function refuse(answer, words) {
  answer.line.className = "bad";
  answer.name.textContent = "Gateway";
  answer.words.textContent = words;
}

// Server-sent events, read from a POST, which EventSource cannot make.
async function follow(response, answer) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let ended = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) ended = show(part, answer) || ended;
  }
  if (!ended) throw new Error("the stream ended in the middle");
}

function show(part, answer) {
  const name = /^event: (.*)$/m.exec(part);
  const data = /^data: (.*)$/m.exec(part);
  if (name === null || data === null) return false;
  const said = JSON.parse(data[1]);
  if (name[1] === "token") {
    answer.words.textContent = (answer.words.textContent === "…" ? "" : answer.words.textContent) + said.text;
  } else if (name[1] === "tool") {
    answer.used.textContent += `${said.worked ? "used" : "was refused"} ${said.name} `;
  } else if (name[1] === "done") {
    answer.words.textContent = said.response;
    conversation = said.conversation;
  } else if (name[1] === "error") {
    refuse(answer, said.detail);
  }
  answer.line.scrollIntoView({ block: "nearest" });
  return name[1] === "done" || name[1] === "error";
}

function busy(yes) {
  $("log").setAttribute("aria-busy", String(yes)); // so that the answer is read out once, when it is whole
  $("send").disabled = yes;
  $("stop").hidden = !yes;
  for (const button of $("suggestions").children) button.disabled = yes;
}

// -- what is clicked and typed

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(cleaned($("token").value));
});
$("file").addEventListener("change", async () => {
  const file = $("file").files[0];
  if (file) signIn(cleaned(await file.slice(0, 20000).text()));
});
$("forget").addEventListener("click", () => {
  signOut();
  $("token").focus();
});
$("reload").addEventListener("click", reload);
$("anew").addEventListener("click", () => {
  startAnew();
  $("message").focus();
});
$("stop").addEventListener("click", () => running && running.abort());
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const message = $("message").value.trim();
  if (!message || running) return;
  $("message").value = "";
  turn(message);
});
$("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
$("suggestions").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) turn(button.textContent);
});
