// Polls /status and /checkpoints, and shows them. All that comes from outside is put in as text.

const EVERY = 2000;
const LISTED = 100;
const SHOWN = 6; // notes of a run that stand open
const TOKEN = "lastgood-token";

const find = (id) => document.getElementById(id);
const seen = new Map(); // address -> {etag, body}
let timer = 0;
let asking = false;
let asideOpen = false; // what a person unfolded stays so when the page changes

// --- asking ---

class TokenNeeded extends Error {}

async function ask(address) {
  const known = seen.get(address);
  const token = sessionStorage.getItem(TOKEN);
  const headers = {};
  if (known) headers["If-None-Match"] = known.etag;
  if (token) headers["Authorization"] = `Bearer ${token}`;
  // no-store: the browser's own cache would hide the 304 from us.
  const answer = await fetch(address, { headers, cache: "no-store", signal: AbortSignal.timeout(15000) });
  if (answer.status === 304) return { body: known.body, changed: false };
  if (answer.status === 401) throw new TokenNeeded();
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail || `the service answered ${answer.status}`);
  seen.set(address, { etag: answer.headers.get("ETag"), body });
  return { body, changed: true };
}

async function look() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  try {
    const [status, list] = await Promise.all([ask("status"), ask(`checkpoints?limit=${LISTED}`)]);
    find("token-form").hidden = true;
    find("content").hidden = false;
    if (status.changed || list.changed) show(status.body, list.body);
    pulse(`Looked at ${clock(new Date())}`);
    showAges();
    unreachable(null);
  } catch (error) {
    if (error instanceof TokenNeeded) askForToken();
    else unreachable(error);
  }
  asking = false;
  if (!document.hidden) timer = setTimeout(look, EVERY);
}

function pulse(words) {
  find("pulse").textContent = words;
}

function unreachable(error) {
  find("unreachable")?.remove();
  if (!error) return;
  const why = error instanceof TypeError || error.name === "TimeoutError" ? "it does not answer" : error.message;
  const last = find("content").hidden ? "" : " What you see below is the last that it said.";
  const box = alertBox("bad", "The service cannot be reached", `${why}. Asking again every two seconds.${last}`);
  box.id = "unreachable";
  find("alerts").prepend(box);
  pulse("Not connected");
}

function askForToken() {
  find("content").hidden = true;
  find("token-wrong").hidden = !sessionStorage.getItem(TOKEN);
  sessionStorage.removeItem(TOKEN);
  if (!find("token-form").hidden) return;
  find("token-form").hidden = false;
  pulse("A token is needed");
  find("token").focus();
}

find("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, find("token").value.trim());
  find("token").value = "";
  look();
});

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (document.hidden) pulse("Paused while this tab is hidden");
  else look();
});

// --- building ---

function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") made.className = value;
    else if (name === "text") made.textContent = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function alertBox(kind, title, text) {
  return make("div", { class: `alert ${kind}` }, make("p", { class: "title", text: title }), make("p", { text }));
}

// A shape of its own for each verdict, so that nobody needs the colour.
const SHAPES = {
  complete: ["good", "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm3.6 5.2L7.2 10.9 4.4 8.2l1-1.1 1.7 1.6 3.4-3.6z"],
  partial: ["warn", "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 2a5 5 0 0 1 0 10z"],
  incomplete: ["warn", "M8 1l7 13H1zM7.2 6v4h1.6V6zm0 5v1.6h1.6V11z"],
  corrupt: ["bad", "M3 1.6L8 6.6l5-5L14.4 3l-5 5 5 5-1.4 1.4-5-5-5 5L1.6 13l5-5-5-5z"],
  unhealthy: ["bad", "M8 1l7 7-7 7-7-7zM7.2 4.5v4h1.6v-4zm0 5v1.6h1.6V9.5z"],
  unreadable: ["none", "M2 2h12v12H2zm2 2v8h8V4z"],
};
const WAITING = ["none", "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 1.8a5.2 5.2 0 1 1 0 10.4A5.2 5.2 0 0 1 8 2.8zM7.3 4.4v4.1l3 1.8.7-1.2-2.3-1.4V4.4z"];

function badge(word, [kind, path]) {
  const namespace = "http://www.w3.org/2000/svg";
  const icon = document.createElementNS(namespace, "svg");
  icon.setAttribute("viewBox", "0 0 16 16");
  icon.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(namespace, "path");
  shape.setAttribute("d", path);
  shape.setAttribute("fill", "currentColor");
  shape.setAttribute("fill-rule", "evenodd");
  icon.append(shape);
  return make("span", { class: `badge ${kind}` }, icon, word);
}

const verdictBadge = (verdict) => (verdict ? badge(verdict, SHAPES[verdict] || WAITING) : badge("not judged", WAITING));

function fact(name, ...value) {
  return make("span", {}, `${name} `, make("b", {}, ...value));
}

function age(time) {
  return make("time", { datetime: time, title: new Date(time).toLocaleString(), "data-age": time, text: ago(time) });
}

function showAges() {
  for (const shown of document.querySelectorAll("[data-age]")) shown.textContent = ago(shown.dataset.age);
}

function command(words) {
  const button = make("button", { type: "button", text: "Copy", "aria-label": `Copy ${words}` });
  button.addEventListener("click", () => copy(words, button));
  return make("div", { class: "command" }, make("code", { text: words }), button);
}

async function copy(words, button) {
  try {
    await navigator.clipboard.writeText(words);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(button.previousSibling); // the clipboard is only given on localhost and https
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

// --- showing ---

function show(status, list) {
  const focused = document.activeElement?.getAttribute("aria-label");
  find("alerts").replaceChildren(...alerts(status));
  find("answers").replaceChildren(...answers(status));
  const work = [...(status.progress ? [progress("Verifying", status.progress)] : []), ...errand(status.cloud)];
  find("work").hidden = !work.length;
  find("progress").replaceChildren(...work);
  find("checkpoints").replaceChildren(...tables(status, list));
  find("events").replaceChildren(...status.events.toReversed().map(event));
  find("watch").textContent = watch(status);
  find("version").textContent = `lastgood ${status.version}`;
  if (focused) document.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
}

function alerts(status) {
  const boxes = status.obstacles.map((o) => alertBox("bad", `Not ready: ${o.message}`, `What to do: ${o.advice}.`));
  if (status.watch?.degraded) {
    const how = "The worker looks by the clock instead; a new checkpoint may be noticed a little later.";
    boxes.push(alertBox("warn", `File events do not come: ${status.watch.reason || "no reason given"}`, how));
  }
  if (status.cloud?.trouble) {
    const how = "Nothing is copied at the moment; it is tried again by itself.";
    boxes.push(alertBox("warn", `The cloud has trouble: ${status.cloud.trouble}`, how));
  }
  return boxes;
}

function answers(status) {
  const isHere = (run) => run.branches.length || run.counts.checkpoints;
  const here = status.runs.filter(isHere).map((run) => answer(run, status.cloud));
  const elsewhere = status.runs.filter((run) => !isHere(run)).map((run) => answer(run, status.cloud));
  if (elsewhere.length && (here.length || elsewhere.length > SHOWN)) return [...here, aside(elsewhere)];
  if (status.runs.length) return [...here, ...elsewhere];
  const text = "Nothing has been saved yet. The first checkpoint shows up here by itself.";
  return [make("div", { class: "card" }, make("p", { text }))];
}

// The runs of other machines may be in the same place: they must not push those that run here off the screen.
function aside(cards) {
  const many = cards.length === 1 ? "1 run is" : `${cards.length} runs are`;
  const made = make("details", { class: "aside" }, make("summary", { text: `${many} in the cloud alone` }), ...cards);
  made.open = asideOpen;
  made.addEventListener("toggle", () => (asideOpen = made.open));
  return made;
}

function answer(run, cloud) {
  const card = make("article", { class: "card" }, make("h3", { text: run.name === "." ? run.path : `Run ${run.name}` }));
  if (run.resume_point) card.append(...resumePoint(run.resume_point, run.refusal, copyOf(run.resume_point, run, cloud)));
  else card.append(...noAnswer(run.refusal));
  if (run.cloud) card.append(copies(run.cloud));
  return card;
}

function resumePoint(point, refusal, copy) {
  const shown = [
    make("p", { class: "answer" }, make("strong", { text: point.name }), verdictBadge(point.verdict)),
    make(
      "p",
      { class: "facts" },
      fact("step", count(point.step)),
      fact("saved", age(point.saved_at)),
      fact("size", bytes(point.bytes)),
      fact("evidence", point.evidence),
      fact("resumes", point.exact_resume ? "bit for bit" : "not bit for bit"),
      ...copy,
    ),
    command(point.path),
    command(`--resume_from_checkpoint ${quoted(point.path)}`),
  ];
  if (refusal) shown.unshift(make("p", { class: "bad", text: `Last known, not vouched for at the moment (${refusal.code}).` }));
  const notes = [
    ...warnings(point),
    ...point.pending.map(pending),
    ...point.skipped.map((s) => make("li", {}, make("b", { text: s.name }), ` was passed over: ${s.message}`)),
  ];
  if (point.order_disputed) {
    const { mtime, step } = point.order_disputed;
    notes.unshift(make("li", {}, make("b", { text: "Order" }), ` by time the newest is ${mtime}, by step ${step}`));
  }
  if (notes.length) shown.push(list(notes));
  return shown;
}

function warnings(point) {
  return point.warnings.map((warning) => {
    const words = `${sentence(warning.message)} ${sentence(warning.hint)}`;
    return make("li", {}, make("b", { text: "Warning" }), warning.file ? ` ${warning.file}: ${words}` : ` ${words}`);
  });
}

// The first ones stand open: a run with hundreds of damaged saves must not push all else off the screen.
function list(notes) {
  const made = make("ul", { class: "notes" }, ...notes.slice(0, SHOWN));
  const rest = notes.slice(SHOWN);
  if (!rest.length) return made;
  const more = make("details", {}, make("summary", { text: `${rest.length} more` }), make("ul", {}, ...rest));
  made.append(make("li", {}, more));
  return made;
}

function noAnswer(refusal) {
  const shown = [make("p", { class: "answer" }, make("strong", { text: "None" })), make("p", { text: sentence(refusal.detail) })];
  const refused = (refusal.details.refused || []).map((r) =>
    make("li", {}, make("b", { text: r.name }), ` was refused: ${r.message}`),
  );
  const notes = [...(refusal.details.pending || []).map(pending), ...refused];
  if (refusal.details.accept_with) shown.push(command(refusal.details.accept_with));
  if (refusal.details.pull_with) shown.push(command(refusal.details.pull_with));
  if (notes.length) shown.push(list(notes));
  return shown;
}

function pending(one) {
  const what = one.state === "settled" ? "is being verified" : one.active ? "is landing" : "has stopped landing";
  const left = one.seconds_left === null ? "" : `, about ${duration(one.seconds_left)} left`;
  const why = one.waiting_for ? ` (${one.waiting_for})` : "";
  return make("li", {}, make("b", { text: one.name }), ` ${what}${left}${why}`);
}

// Whether what a job would start from would survive this disk.
function copyOf(point, run, cloud) {
  if (!run.cloud) return [];
  const label = "copy in the cloud";
  const copy = point.cloud_copy;
  const sent = cloud?.errand?.kind === "send" && cloud.errand.checkpoint_id === point.id ? cloud.errand : null;
  if (copy?.state === "proven") return [fact(label, "proven", ...(copy.committed_at ? [" ", age(copy.committed_at)] : []))];
  if (sent) return [fact(label, `being copied, ${Math.floor((100 * sent.bytes_done) / (sent.bytes_total || 1))} %`)];
  if (copy?.state === "conflict") return [fact(label, badge("in conflict", SHAPES.incomplete))];
  if (copy?.state === "failed") {
    return [make("span", {}, fact(label, badge("failed", SHAPES.incomplete)), copy.error ? ` ${copy.error}` : "")];
  }
  return [fact(label, run.cloud.waiting.includes(point.name) ? "not yet" : "none")];
}

function copies(found) {
  const many = found.copies === 1 ? "1 proven copy" : `${found.copies} proven copies`;
  const shown = make("p", { class: "facts copies" }, fact("in the cloud", found.copies ? `${many}, ${bytes(found.bytes)}` : "no copies"));
  if (found.waiting.length) shown.append(fact("still to be copied", count(found.waiting.length)));
  if (found.conflicts.length) shown.append(make("span", {}, badge("in conflict", SHAPES.incomplete), ` ${found.conflicts.join(", ")}`));
  return shown;
}

const ERRANDS = { send: "Copying", fetch: "Fetching", drill: "Trial restore of" };

function errand(cloud) {
  const doing = ERRANDS[cloud?.errand?.kind];
  return doing ? [progress(doing, cloud.errand)] : [];
}

function progress(doing, work) {
  const left = work.seconds_left === null ? "" : `, about ${duration(work.seconds_left)} left`;
  const words = `${bytes(work.bytes_done)} of ${bytes(work.bytes_total)} at ${bytes(work.bytes_per_second)} a second${left}`;
  const bar = make("progress", { max: work.bytes_total || 1, value: work.bytes_done, "aria-label": `${doing} ${work.name}` });
  return make(
    "div",
    { class: "card" },
    make("h3", { text: `${doing} ${work.run === "." ? work.name : `${work.run} / ${work.name}`}` }),
    bar,
    make("div", { class: "soft", text: words }),
  );
}

const COLUMNS = ["Name", "Verdict", "Step", "State", "Evidence", "Size", "Saved"];

function tables(status, list) {
  const chosen = new Set(status.runs.map((run) => run.resume_point?.id));
  const runs = [...new Set(list.items.map((item) => item.run))].sort();
  const shown = runs.map((run) => table(run, list.items.filter((item) => item.run === run), chosen, runs.length > 1));
  if (!runs.length) return [make("p", { class: "soft", text: "None yet." })];
  if (list.next_cursor) shown.push(make("p", { class: "soft", text: `The newest ${LISTED} are shown.` }));
  return shown;
}

function table(run, items, chosen, titled) {
  const head = make("tr", {}, ...COLUMNS.map((name) => make("th", { scope: "col", class: numeric(name), text: name })));
  const made = make("table", {}, make("thead", {}, head), make("tbody", {}, ...items.map((item) => row(item, chosen))));
  const title = titled ? `Run ${run}` : "Checkpoints";
  if (titled) made.prepend(make("caption", { text: title }));
  else made.setAttribute("aria-label", title);
  // A box that scrolls must be reachable by keyboard.
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${title}` }, made);
}

function row(item, chosen) {
  const state = item.state === "landing" && !item.active ? "landing, stopped" : item.state;
  return make(
    "tr",
    chosen.has(item.id) ? { class: "chosen" } : {},
    make("th", { scope: "row", text: item.name }),
    cell("Verdict", verdictBadge(item.verdict), "verdict"),
    cell("Step", count(item.step), "number"),
    cell("State", state),
    cell("Evidence", item.evidence || "–"),
    cell("Size", bytes(item.bytes), "number"),
    cell("Saved", age(item.saved_at)),
  );
}

function cell(label, content, kind = "") {
  return make("td", { "data-label": label, class: kind }, content);
}

const numeric = (name) => (["Step", "Size"].includes(name) ? "number" : "");

function event(one) {
  const at = new Date(one.at);
  const words = make("span", { text: `${one.run && one.run !== "." ? `${one.run}: ` : ""}${one.message}` });
  const kind = one.severity === "info" ? [] : [badge(one.severity, one.severity === "error" ? SHAPES.corrupt : SHAPES.incomplete)];
  return make("li", {}, make("time", { datetime: one.at, title: at.toLocaleString(), text: clock(at) }), ...kind, words);
}

function watch(status) {
  if (!status.watch) return "";
  const roots = status.watch.roots.join(", ");
  const how = status.watch.mode === "events" ? "by file events and by the clock" : `by the clock (${status.watch.reason})`;
  return `Watching ${roots} ${how}`;
}

// --- words ---

const count = (number) => number.toLocaleString("en");
const clock = (date) => date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + ".";
const quoted = (path) => (/^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);

function bytes(size) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  while (size >= 1000 && place < units.length - 1) [size, place] = [size / 1000, place + 1];
  return `${size >= 100 || place === 0 ? Math.round(size) : size.toPrecision(3)} ${units[place]}`;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

function ago(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1000;
  return seconds < 2 ? "just now" : `${duration(seconds)} ago`;
}

look();
