/* What the page shows, and how it follows the comparison; charts.js comes before it. */
const POLL_MS = 2000;
const POLL_FINISHED_MS = 10000;
const SILENT_SECONDS = 60;
const COLOURS = 8;
const SMALL_PX = 160;
const STAGES = {
  waiting: "waiting", starting: "starting", training: "training", measuring: "measuring held-out loss",
  stopped: "stopped", finished: "finished", failed: "failed",
};

const nameRun = (run) => `${run.arm} (seed ${run.seed})`;
const byId = (id) => document.getElementById(id);
const built = new Map();
let latest = null;

/* Writing figures */
const count = (number) => number.toLocaleString("en");
const loss = (number) => (Number.isFinite(number) ? number.toFixed(4) : "no number");
const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

function duration(seconds) {
  const whole = Math.round(seconds);
  const pad = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  const text = hours ? `${hours} h ${pad(minutes)} min` : minutes ? `${minutes} min ${pad(whole % 60)} s` : `${whole} s`;
  return text.replaceAll(" ", "\u00a0");
}

/* Changing only what is other than before */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

function show(node, isShown) {
  if (node.hidden === isShown) node.hidden = !isShown;
}

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function drawn(tag, className) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  if (className) node.setAttribute("class", className);
  return node;
}

function once(key, build) {
  if (!built.has(key)) built.set(key, build());
  return built.get(key);
}

/* Head */
function tellStatus(state) {
  const inStage = (...stages) => state.runs.filter((run) => stages.includes(run.stage));
  if (state.status === "preparing") return "Preparing: the model and every arm are checked, and the pictures encoded.";
  const [done, failed] = [inStage("finished").length, inStage("failed").length];
  const ended = `${done} of ${counted(state.runs.length, "run")} finished` + (failed ? `, ${failed} failed` : "");
  if (state.status === "finished") return `The comparison is finished: ${ended}.`;
  const training = inStage("starting", "training").map(nameRun);
  if (training.length) return `Training ${training.join(" and ")}. ${ended}.`;
  const measuring = inStage("measuring").map(nameRun);
  if (measuring.length) return `Measuring the held-out loss of ${measuring.join(" and ")}. ${ended}.`;
  const isOver = !inStage("waiting", "stopped").length;
  return isOver ? `All runs have ended: ${ended}. Pictures are drawn and scored.` : `${ended}.`;
}

function tellTotal(state) {
  const left = state.seconds_left;
  const steps = `${count(state.step)} of ${counted(state.steps, "step")} in ${counted(state.runs.length, "run")}`;
  if (state.status === "finished" || !left) return steps;
  return `${steps} · about ${duration(left)} of training left`;
}

function showHead(state) {
  const share = state.steps ? state.step / state.steps : 0;
  const isFinished = state.status === "finished";
  setText(byId("name"), state.name);
  setText(byId("status"), tellStatus(state));
  setText(byId("total-note"), tellTotal(state));
  byId("total-bar").value = share;
  show(byId("total"), state.runs.length > 0);
  show(byId("total-bar"), !isFinished);
  show(byId("report"), state.has_report);
  byId("pulse").classList.toggle("on", !isFinished);
  const standing = isFinished ? "finished" : `${Math.floor(100 * share)} %`;
  const title = `${standing} · ${state.name} · Rasengan-XL`;
  if (document.title !== title) document.title = title;
  showAlarms(state);
}

function showAlarms(state) {
  const failures = state.runs.filter((run) => run.stage === "failed");
  const alarms = failures.map((run) => `${nameRun(run)} failed: ${run.reason || "no reason was recorded"}`);
  alarms.push(...state.notes);
  const list = byId("alarms");
  while (list.children.length > alarms.length) list.lastElementChild.remove();
  alarms.forEach((alarm, place) => {
    if (!list.children[place]) list.append(element("li"));
    setText(list.children[place], alarm);
  });
}

/* Runs */
function buildArm(arm, place) {
  const card = element("article", `arm arm-${place % COLOURS}`);
  const [ended, chart] = [element("span", "beside"), drawn("svg", "chart")];
  chart.setAttribute("role", "img");
  const title = element("h3", "", element("span", "dot"), arm);
  card.append(element("div", "arm-head", title, ended), chart);
  byId("arms").append(card);
  return { card, ended, chart };
}

function buildRun(card, run, place) {
  const key = drawn("svg", "key");
  const sample = drawn("path", `mean seed-${place % DASHES}`);
  sample.setAttribute("d", "M1 5H25");
  key.append(sample);
  key.setAttribute("aria-hidden", "true");
  const parts = {
    stage: element("span", "stage"), left: element("span", "left"), bar: element("progress"),
    pace: element("p", "beside"), losses: element("p", "beside losses"), reason: element("p", "beside reason"),
  };
  parts.bar.setAttribute("aria-label", `Optimizer steps of ${run.arm}, seed ${run.seed}`);
  const head = element("div", "run-head", key, element("b", "", `seed ${run.seed}`), parts.stage, parts.left);
  card.append(element("div", "run", head, parts.bar, parts.pace, parts.losses, parts.reason));
  return parts;
}

function tellPace(run) {
  if (run.stage === "waiting") return "";
  if (!run.steps) return "given, not trained here";
  const facts = [`${count(run.step)} of ${counted(run.steps, "step")}`];
  if (run.seconds_per_step) facts.push(`${run.seconds_per_step.toPrecision(3)} s/step`);
  if (run.peak_memory_gib) facts.push(`${run.peak_memory_gib.toFixed(2)} GiB`);
  return facts.join(" · ");
}

function tellLosses(run) {
  const final = run.held_out_loss;
  if (final) {
    const difference = `${final.difference > 0 ? "+" : "\u2212"}${loss(Math.abs(final.difference))}`;
    return `Held-out loss ${loss(final.adapted)}, base ${loss(final.base)}: ${difference}\u00a0±\u00a0${loss(final.difference_standard_error)} (n\u00a0=\u00a0${count(final.n)})`;
  }
  const last = run.checkpoints.at(-1);
  if (!last) return "";
  return `Held-out loss at step ${count(last.step)}: ${loss(last.loss)}\u00a0±\u00a0${loss(last.standard_error)} (n\u00a0=\u00a0${count(last.n)})`;
}

function tellTrouble(run) {
  if (run.stage === "failed") return run.reason || "No reason was recorded.";
  const patience = Math.max(SILENT_SECONDS, 20 * (run.seconds_per_step || 0));
  const isSilent = run.seconds_silent > patience;
  return isSilent ? `No step for ${duration(run.seconds_silent)}: its process may have ended.` : "";
}

function showRun(card, run, place) {
  const parts = once(`run ${run.arm}/${run.seed}`, () => buildRun(card, run, place));
  setText(parts.stage, STAGES[run.stage]);
  setAttribute(parts.stage, "data-stage", run.stage);
  setText(parts.left, run.seconds_left ? `${duration(run.seconds_left)} left` : "");
  setAttribute(parts.bar, "max", run.steps || 1);
  setAttribute(parts.bar, "value", run.steps ? run.step : Number(run.stage === "finished"));
  const lines = { pace: tellPace(run), losses: tellLosses(run), reason: tellTrouble(run) };
  for (const [name, text] of Object.entries(lines)) {
    setText(parts[name], text);
    show(parts[name], text !== "");
  }
}

function showArms(state) {
  const arms = [...new Set(state.runs.map((run) => run.arm))];
  show(byId("training"), arms.length > 0);
  const columns = arms.length % 3 === 0 || arms.length > 4 ? 3 : Math.min(arms.length, 2);
  setAttribute(byId("arms"), "data-columns", columns);
  const axes = chooseAxes(state.runs);
  arms.forEach((arm, place) => {
    const runs = state.runs.filter((run) => run.arm === arm);
    const { card, ended, chart } = once(`arm ${arm}`, () => buildArm(arm, place));
    const done = runs.filter((run) => run.stage === "finished").length;
    setText(ended, `${done} of ${runs.length} finished`);
    runs.forEach((run, seedPlace) => showRun(card, run, seedPlace));
    showChart(chart, arm, runs, axes);
  });
}

/* Pictures */
function buildShelf(prompt) {
  const shelf = element("div", "shelf");
  byId("prompts").append(element("div", "prompt", element("p", "", prompt), shelf));
  return shelf;
}

function buildPicture(picture, caption) {
  const image = element("img");
  image.alt = picture.prompt ? `${caption}: ${picture.prompt}` : caption;
  image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth <= SMALL_PX));
  const link = element("a", "", image);
  link.target = "_blank";
  link.rel = "noopener";
  return { figure: element("figure", "", link, element("figcaption", "", caption)), image, link };
}

function rank(picture, arms) {
  const place = picture.arm === "base" ? -1 : arms.indexOf(picture.arm);
  return [place, picture.seed ?? -1];
}

function showPictures(state) {
  const arms = [...new Set(state.runs.map((run) => run.arm))];
  const shelves = new Map();
  for (const picture of state.pictures) {
    const prompt = picture.prompt ?? "";
    const key = `${prompt}/${picture.noise_seed}`;
    if (!shelves.has(key)) shelves.set(key, { prompt, pictures: [] });
    shelves.get(key).pictures.push(picture);
  }
  for (const [key, { prompt, pictures }] of shelves) {
    const shelf = once(`shelf ${key}`, () => buildShelf(prompt));
    const ranked = pictures.map((picture) => [rank(picture, arms), picture]);
    ranked.sort(([a], [b]) => a[0] - b[0] || a[1] - b[1]);
    ranked.forEach(([, picture], place) => showPicture(shelf, picture, place));
  }
  setText(byId("pictures-title"), state.status === "finished" ? "Pictures" : "Pictures so far");
  show(byId("pictures"), state.pictures.length > 0);
}

function showPicture(shelf, picture, place) {
  const caption = picture.seed === null ? picture.arm : `${picture.arm}, seed ${picture.seed}`;
  const { figure, image, link } = once(`picture ${picture.path}`, () => buildPicture(picture, caption));
  const address = `/${picture.path.split("/").map(encodeURIComponent).join("/")}?${picture.changed}`;
  setAttribute(image, "src", address);
  setAttribute(link, "href", address);
  if (shelf.children[place] !== figure) shelf.insertBefore(figure, shelf.children[place] ?? null);
}

/* Following */
function showState(state) {
  showHead(state);
  showArms(state);
  showPictures(state);
}

function showLoss(isLost) {
  const since = new Date().toLocaleTimeString("en", { hour12: false });
  if (isLost && byId("lost").hidden) {
    setText(byId("lost"), `The server has not answered since ${since}. What stands here may be out of date; start it again with rasengan report DIR --serve.`);
  }
  show(byId("lost"), isLost);
  byId("pulse").classList.toggle("on", !isLost && latest?.status !== "finished");
}

async function follow() {
  try {
    const answer = await fetch("/state.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(`state.json: ${answer.status}`);
    latest = await answer.json();
    showLoss(false);
  } catch {
    showLoss(true);
  }
  try {
    if (latest) showState(latest);
  } finally {  // a state that cannot be shown is complained of, and the next one asked for
    setTimeout(follow, latest?.status === "finished" ? POLL_FINISHED_MS : POLL_MS);
  }
}

addEventListener("resize", () => latest && showState(latest));
follow();
