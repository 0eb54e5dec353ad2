"use strict";

const POLL_MS = 2000;
const POLL_FINISHED_MS = 10000;
const SILENT_SECONDS = 60;
const COLOURS = 8;
const DASHES = 4;
const SMALL_PX = 160;
const MEANS_A_RUN = 15;
const CHART = { height: 150, left: 44, right: 12, top: 8, bottom: 20 };
const STAGES = {
  waiting: "waiting", starting: "starting", training: "training", measuring: "measuring held-out loss",
  stopped: "stopped", finished: "finished", failed: "failed",
};

const byId = (id) => document.getElementById(id);
const built = new Map();
let latest = null;

/* Writing figures */
const count = (number) => number.toLocaleString("en");
const loss = (number) => number.toFixed(4);
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
  const active = inStage("starting", "training", "measuring").map((run) => `${run.arm} (seed ${run.seed})`);
  if (active.length) return `Training ${active.join(" and ")}. ${ended}.`;
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
  const alarms = failures.map((run) => `${run.arm}, seed ${run.seed}, failed: ${run.reason || "no reason was recorded"}`);
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
  setAttribute(parts.bar, "max", run.steps);
  setAttribute(parts.bar, "value", run.step);
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

/* Charts */
function runningMean(run) {
  const points = run.curve.points;
  const span = Math.max(1, Math.round(run.steps / run.curve.steps_per_point / MEANS_A_RUN));
  let sum = 0;
  const means = points.map(([step, value], place) => {
    sum += value - (place >= span ? points[place - span][1] : 0);
    return [step, sum / span];
  });
  return means.slice(span - 1);
}

function chooseAxes(runs) {
  const smooth = runs.flatMap((run) => [...runningMean(run).map(([, mean]) => mean), ...run.checkpoints.map((point) => point.loss)]);
  const values = smooth.length ? smooth : runs.flatMap((run) => run.curve.points.map(([, value]) => value));
  if (!values.length) return null;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(0.15 * (high - low), 0.02 * high, 1e-6);
  return { low: Math.max(0, low - room), high: high + room, steps: Math.max(...runs.map((run) => run.steps)) };
}

function chooseTicks(low, high) {
  const rough = (high - low) / 3;
  const power = 10 ** Math.floor(Math.log10(rough));
  const width = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  const ticks = [];
  for (let number = Math.ceil(low / width); number * width <= high; number += 1) ticks.push(number * width);
  const digits = Math.max(0, -Math.floor(Math.log10(width) + 1e-9));
  return ticks.map((value) => ({ value, text: value.toFixed(digits) }));
}

function showChart(svg, arm, runs, axes) {
  const width = svg.clientWidth || 360;
  const { height, left, right, top, bottom } = CHART;
  setAttribute(svg, "viewBox", `0 0 ${width} ${height}`);
  if (!axes) {
    setAttribute(svg, "aria-label", `Loss of ${arm}: no step yet`);
    svg.replaceChildren(label(width / 2, height / 2, "middle", "no step yet"));
    return;
  }
  const x = (step) => left + (step / axes.steps) * (width - left - right);
  const y = (value) => top + ((axes.high - value) / (axes.high - axes.low)) * (height - top - bottom);
  const frame = { x: left - 5, y: top - 5, width: width - left + 5, height: height - top - bottom + 10 };
  const body = drawn("svg");
  for (const [name, value] of Object.entries(frame)) body.setAttribute(name, value);
  body.setAttribute("viewBox", `${frame.x} ${frame.y} ${frame.width} ${frame.height}`);
  runs.forEach((run, place) => body.append(...drawRun(run, place, x, y)));
  setAttribute(svg, "aria-label", describeChart(arm, runs));
  svg.replaceChildren(...drawAxes(axes, width, x, y), body);
}

function describeChart(arm, runs) {
  const ends = runs.flatMap((run) => runningMean(run).slice(-1).map(([step, mean]) => `seed ${run.seed}: ${loss(mean)} at step ${step}`));
  return `Running mean of the training loss of ${arm}. ${ends.join("; ") || "Too few steps yet"}.`;
}

function label(x, y, anchor, text) {
  const node = drawn("text");
  node.setAttribute("x", x);
  node.setAttribute("y", y);
  node.setAttribute("text-anchor", anchor);
  node.textContent = text;
  return node;
}

function drawAxes(axes, width, x, y) {
  const nodes = chooseTicks(axes.low, axes.high).flatMap(({ value, text }) => {
    const rule = drawn("path", "rule");
    rule.setAttribute("d", `M${CHART.left} ${y(value)}H${width - CHART.right}`);
    return [rule, label(CHART.left - 8, y(value) + 4, "end", text)];
  });
  const foot = CHART.height - 4;
  return [...nodes, label(x(0), foot, "start", "0"), label(x(axes.steps), foot, "end", `step ${count(axes.steps)}`)];
}

function drawRun(run, place, x, y) {
  const line = (className, points) => {
    const path = drawn("path", className);
    path.setAttribute("d", points.map(([step, value], n) => `${n ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join(""));
    return path;
  };
  const circles = run.checkpoints.map((point) => {
    const circle = drawn("circle", "held");
    const title = drawn("title");
    title.textContent = `seed ${run.seed}, step ${point.step}: held-out loss ${loss(point.loss)}\u00a0±\u00a0${loss(point.standard_error)}`;
    for (const [name, value] of Object.entries({ cx: x(point.step), cy: y(point.loss), r: 4 })) circle.setAttribute(name, value);
    circle.append(title);
    return circle;
  });
  return [line("raw", run.curve.points), line(`mean seed-${place % DASHES}`, runningMean(run)), ...circles];
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
  if (latest) showState(latest);
  setTimeout(follow, latest?.status === "finished" ? POLL_FINISHED_MS : POLL_MS);
}

addEventListener("resize", () => latest && showState(latest));
follow();
