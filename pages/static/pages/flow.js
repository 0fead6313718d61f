// Keeps /flow/ current: reads the state once a second while the page is visible, and the history
// every ten seconds. The server draws the page; this module changes figures, states and lists.

const EVERY_MS = 1000;
const HISTORY_MS = 10_000;
const SHOWN_SECONDS = 3600;
const DIFFERS = 3; // states in a row with other parts, since processes can disagree for a moment
const UNITS = { rates: "events per second", lags: "seconds behind" };
const MARKS = { good: "●", warn: "▲", bad: "■" };

const page = document.getElementById("flow");
const RATE_SECONDS = Number(page.dataset.window); // a rate is the change of a total over this time
const live = document.getElementById("live");
const kept = {
  etag: "", historyEtag: "", differs: 0, figures: {}, totals: [], warnings: "", groups: "",
};
let charts = [];
let history = null;
let timer = 0;

function say(text, level) {
  if (live.textContent !== text) live.textContent = text;
  live.className = `state ${level}`;
}

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// -- the state ---------------------------------------------------------------------------

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  const started = Date.now();
  try {
    const headers = kept.etag ? { "If-None-Match": kept.etag } : {};
    const signal = AbortSignal.timeout(10 * EVERY_MS);
    const answer = await fetch(page.dataset.status, { headers, signal, cache: "no-store" });
    if (answer.status === 403) return say("stopped: log in again", "bad");
    if (answer.status === 200 || answer.status === 304) {
      await update(answer);
      if (kept.differs >= DIFFERS) return location.reload(); // the picture has other parts
      say("live: updated every second", "good");
    } else {
      kept.totals = [];
      say(`not updated: a server that this page needs is away (${answer.status})`, "bad");
    }
  } catch (error) {
    kept.totals = [];
    say(`not updated: the web server doesn't answer (${error.message})`, "bad");
  }
  timer = setTimeout(poll, Math.max(0, EVERY_MS - (Date.now() - started)));
}

async function update(answer) {
  if (answer.status === 304 && kept.differs) kept.differs += 1;
  if (answer.status === 200) {
    kept.etag = answer.headers.get("ETag") ?? "";
    show(await answer.json());
  }
  showRates();
}

function partsOf(state) {
  return Object.keys(state.states).sort().join(" ");
}

function show(state) {
  for (const node of page.querySelectorAll("[data-figure]")) {
    const text = String(state.figures[node.dataset.figure] ?? "?");
    if (node.textContent !== text) node.textContent = text;
  }
  for (const node of page.querySelectorAll("[data-state]")) {
    const level = state.states[node.dataset.state];
    node.classList.remove("good", "warn", "bad", "unknown");
    if (level) node.classList.add(level);
    const mark = node.querySelector(".mark");
    if (mark) mark.textContent = MARKS[level] ?? "?";
  }
  for (const node of page.querySelectorAll("[data-cell]")) {
    const { owner, title } = state.cells[node.dataset.cell] ?? { owner: -1, title: "?" };
    node.setAttribute("class", `cell owner${owner}`);
    node.querySelector("title").textContent = title;
  }
  kept.differs = partsOf(state) === page.dataset.parts ? 0 : kept.differs + 1;
  kept.figures = state.figures;
  showWarnings(state.warnings);
  showGroups(Object.values(state.services).flatMap((service) => service.parked ?? []));
}

function showRates() {
  const now = Date.now() / 1000;
  kept.totals.push([now, kept.figures]);
  while (kept.totals.length > 2 && kept.totals[1][0] <= now - RATE_SECONDS) kept.totals.shift();
  const [then, before] = kept.totals[0];
  for (const node of page.querySelectorAll("[data-rate]")) {
    const name = node.dataset.rate;
    const change = kept.figures[name] - before[name];
    const known = now > then && change >= 0;
    node.textContent = known ? (change / (now - then)).toFixed(1) : "–";
  }
}

function showWarnings(warnings) {
  const text = JSON.stringify(warnings);
  if (text === kept.warnings) return;
  kept.warnings = text;
  const notes = warnings.map(({ level, text, do: advice, retry, see }) => {
    const note = element("div", "", { class: `note ${level}` });
    const first = element("p");
    const second = element("p", `${advice} `);
    first.append(element("strong", text));
    if (retry) second.append(element("a", "Retry them…", { href: retry }), " ");
    second.append(element("a", "More about this", { href: `${page.dataset.help}#${see}` }));
    note.append(first, second);
    return note;
  });
  const nothing = "Nothing: every server and process that this page asks works.";
  if (!notes.length) notes.push(element("p", nothing, { class: "muted" }));
  replaced("warnings", notes);
}

function showGroups(groups) {
  const text = JSON.stringify(groups);
  if (text === kept.groups) return;
  kept.groups = text;
  const items = groups.map((group) => {
    const item = element("li");
    const number = `${group.is_partial ? "≥ " : ""}${group.sequences}`;
    item.append(element("strong", number, { class: "figure" }));
    item.append(` ${group.consumer} ← ${group.producer} `);
    item.append(group.url ? element("a", group.error, { href: group.url }) : group.error);
    return item;
  });
  if (!items.length) items.push(element("li", "Nothing is parked.", { class: "muted" }));
  replaced("groups", items);
}

// A link that has the focus keeps it, if the new list has the same link.
function replaced(id, children) {
  const list = document.getElementById(id);
  const focused = list.contains(document.activeElement) ? document.activeElement.href : "";
  list.replaceChildren(...children);
  if (focused) [...list.querySelectorAll("a")].find((link) => link.href === focused)?.focus();
}

// -- the last hour -----------------------------------------------------------------------

async function readHistory() {
  if (document.hidden) return;
  try {
    const headers = kept.historyEtag ? { "If-None-Match": kept.historyEtag } : {};
    const answer = await fetch(page.dataset.history, { headers, cache: "no-store" });
    if (answer.ok) {
      kept.historyEtag = answer.headers.get("ETag") ?? "";
      history = await answer.json();
      draw();
      for (const node of page.querySelectorAll("[data-trend]")) {
        node.textContent = history[node.dataset.service]?.trends[node.dataset.trend] ?? "";
      }
    }
  } catch {
    // The state says that the server doesn't answer.
  }
}

function colour(name) {
  return getComputedStyle(page).getPropertyValue(name).trim();
}

function seriesOf(kind, series) {
  if (kind === "rates") return [["recorded", series.recorded], ["published", series.published]];
  return [["outbox", series.oldest], ...Object.entries(series.consumers)];
}

function utc(at) {
  return at === null ? "–" : new Date(at * 1000).toISOString().slice(11, 16);
}

function draw() {
  for (const chart of charts) chart.destroy();
  charts = [];
  const lines = ["--link", "--warn", "--good", "--bad", "--muted", "--ink"].map(colour);
  const end = Math.max(...Object.values(history).flatMap((series) => series.at));
  const axis = {
    stroke: colour("--muted"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1 },
    labelFont: "12px system-ui, sans-serif",
    labelSize: 20,
  };
  const minutes = { // labels that don't touch
    ...axis,
    label: "time, UTC",
    space: 56,
    incrs: [60, 120, 300, 600, 900, 1800, 3600],
    values: (_, moments) => moments.map(utc),
  };
  for (const place of page.querySelectorAll("[data-chart]")) {
    const series = history[place.dataset.service];
    if (!series?.at.length) continue;
    const shown = seriesOf(place.dataset.chart, series);
    const options = {
      width: place.clientWidth,
      height: 230,
      cursor: { drag: { x: false, y: false } },
      scales: {
        x: { range: () => [end - SHOWN_SECONDS, end] }, // also before there are samples of an hour
        y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] },
      },
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "UTC"),
      axes: [minutes, { ...axis, size: 44, label: UNITS[place.dataset.chart] }],
      series: [
        { label: "UTC", value: (_, at) => utc(at) },
        ...shown.map(([label], number) => ({
          label,
          stroke: lines[number % lines.length],
          width: 1.5,
          dash: number % 2 ? [6, 3] : [], // lines differ without colour too
          points: { show: false },
        })),
      ],
    };
    charts.push(new uPlot(options, [series.at, ...shown.map(([, values]) => values)], place));
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    clearTimeout(timer);
    return say("paused: the page is hidden", "warn");
  }
  kept.totals = [];
  poll();
  readHistory();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => history && draw());
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width || !history) return;
  width = innerWidth;
  draw();
});
poll();
readHistory();
setInterval(readHistory, HISTORY_MS);
