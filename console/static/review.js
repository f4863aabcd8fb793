// The page of a review. Each decision is sent when its key is pressed; the page shows it at once, and takes it back if
// it could not be stored. Everything from data is set as text.
"use strict";

const SKIPPED = "skipped";
const byId = (id) => document.getElementById(id);

let info = null;               // labels, kind, sizes
const names = new Map();       // of labels, by id
const pages = [];              // arrays of photos, in groups, as they were shown
let pageNumber = -1;
let chosen = null;             // the photo that keys are about
let ahead = [];                // photos of the next page
const known = new Map();       // all photos that were shown or are ahead, by content hash
let sent = Promise.resolve();  // requests are sent one after the other
let startedAt = null, labelledHere = 0;

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(body),
  };
  const answer = await fetch(path, options);
  if (answer.ok) return answer.json();
  const told = await answer.text();
  let detail = told;
  try { detail = JSON.parse(told).detail; } catch { /* it is plain text */ }
  throw new Error(typeof detail === "string" ? detail : JSON.stringify(detail));
}

function inTurn(work) {
  sent = sent.then(work).catch((error) => {
    const lost = error instanceof TypeError;  // of fetch: no answer
    tell(lost ? "The review does not answer: start it again, and open the address that it prints." : error.message);
  });
  return sent;
}

function tell(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = text === "";
}

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const picture = (hash, size) => `/photos/${hash}/${size}`;
const said = (labels) => labels.length ? labels.map((id) => names.get(id) ?? id).join(", ") : "none of these";
const isOpen = (photo) => photo.said === null;
const groupOf = (photo) => photo.suggestion.join("\n");
const shown = () => pages[pageNumber] ?? [];

// Pages

function inGroups(photos) {
  const rank = (photo) => photo.suggestion.length ? info.labels.findIndex((each) => each.id === photo.suggestion[0]) : 1e9;
  return photos.map((photo, order) => ({photo, order}))
    .sort((a, b) => rank(a.photo) - rank(b.photo) || groupOf(a.photo).localeCompare(groupOf(b.photo)) || a.order - b.order)
    .map((each) => each.photo);
}

async function loadAhead() {
  const {photos, left} = await ask("/api/review/hand");
  byId("left").textContent = left.toLocaleString();
  byId("bar").max = Math.max(info.unsure, 1);
  byId("bar").value = info.unsure - left;
  const here = new Set(shown());
  ahead = photos.filter(({image_hash}) => {
    const before = known.get(image_hash);
    return !before || (before.said === SKIPPED && !here.has(before));
  }).map((photo) => ({...photo, said: null, card: null}));
  for (const photo of ahead) {
    known.set(photo.image_hash, photo);
    new Image().src = picture(photo.image_hash, "small");
  }
}

async function nextPage() {
  choose(null);  // keys pressed while photos are loaded are about none
  if (ahead.length === 0) await inTurn(loadAhead);
  if (ahead.length === 0) { finish(); return; }
  pages.push(inGroups(ahead.slice(0, info.hand)));
  ahead = ahead.slice(info.hand);
  showPage(pages.length - 1);
  if (ahead.length === 0) inTurn(loadAhead);
}

function finish() {
  choose(null);
  byId("grid").replaceChildren(element("p", {id: "finished",
    textContent: "No unsure photo is left for you: thank you. u takes back what you said last."}));
}

function showPage(number) {
  pageNumber = number;
  const groups = new Map();
  for (const photo of shown()) {
    if (!groups.has(groupOf(photo))) groups.set(groupOf(photo), []);
    groups.get(groupOf(photo)).push(photo);
  }
  byId("grid").replaceChildren(...[...groups.values()].map(groupSection));
  choose(shown().find(isOpen) ?? shown()[0]);
}

function groupSection(photos) {
  const confirm = element("button", {type: "button"}, [element("kbd", {textContent: "Enter"}), " confirm"]);
  confirm.addEventListener("click", () => confirmGroup(photos[0]));
  const title = element("h2", {}, [`${said(photos[0].suggestion)} · ${photos.length}`, confirm]);
  return element("section", {className: "group"}, [title, element("div", {className: "photos"}, photos.map(cardOf))]);
}

function cardOf(photo) {
  const image = element("img", {src: picture(photo.image_hash, "small"), alt: `suggested: ${said(photo.suggestion)}`});
  photo.card = element("figure", {className: "card"}, [image, element("figcaption")]);
  photo.card.dataset.photo = photo.image_hash;
  photo.card.addEventListener("mousemove", (event) => {
    // The page that scrolls below a resting pointer moves no choice.
    if ((event.movementX || event.movementY) && chosen !== photo) choose(photo, false);
  });
  photo.card.addEventListener("click", () => choose(photo, false));
  draw(photo);
  return photo.card;
}

function draw(photo) {
  if (!photo.card) return;
  const isSaid = Array.isArray(photo.said);
  photo.card.classList.toggle("decided", !isOpen(photo));
  photo.card.classList.toggle("changed", isSaid && photo.said.join("\n") !== groupOf(photo));
  photo.card.querySelector("figcaption").textContent =
    isOpen(photo) ? `margin ${photo.margin.toFixed(2)}` : isSaid ? said(photo.said) : "skipped";
  if (photo === chosen) drawChosen();
}

// The chosen photo

function choose(photo, scroll = true) {
  chosen?.card?.classList.remove("chosen");
  chosen = photo;
  photo?.card.classList.add("chosen");
  if (photo && scroll) photo.card.scrollIntoView({block: "nearest"});
  drawChosen();
}

function drawChosen() {
  const photo = chosen;
  byId("large").hidden = photo === null;
  if (photo === null) {
    for (const id of ["choices", "neighbours", "about"]) byId(id).replaceChildren();
    return;
  }
  if (byId("large").dataset.photo !== photo.image_hash) {
    byId("large").dataset.photo = photo.image_hash;
    byId("large").src = picture(photo.image_hash, "large");
    byId("neighbours").replaceChildren(...photo.neighbours.map((each) => element("figure", {className: "card"}, [
      element("img", {src: picture(each.image_hash, "small"), alt: ""}),
      element("figcaption", {textContent: said(each.labels)}),
    ])));
  }
  byId("about").textContent = `suggested: ${said(photo.suggestion)}, margin ${photo.margin.toFixed(2)}`;
  const labels = Array.isArray(photo.said) ? photo.said : photo.suggestion;
  byId("choices").replaceChildren(...photo.choices.slice(0, 9).map((id, number) => {
    const button = element("button", {type: "button", className: labels.includes(id) ? "said" : ""},
      [element("kbd", {textContent: String(number + 1)}), ` ${names.get(id)}`]);
    button.addEventListener("click", () => say(id));
    return element("li", {}, [button]);
  }));
}

function move(step) {
  const photos = shown(), to = photos.indexOf(chosen) + step;
  if (photos[to]) choose(photos[to]);
}

function moveByRow(direction) {
  if (!chosen) return;
  const from = chosen.card.getBoundingClientRect();
  const rows = shown().map((photo) => ({photo, box: photo.card.getBoundingClientRect()}))
    .filter(({box}) => direction * (box.top - from.top) > 1);
  rows.sort((a, b) => direction * (a.box.top - b.box.top) || Math.abs(a.box.left - from.left) - Math.abs(b.box.left - from.left));
  if (rows.length) choose(rows[0].photo);
}

function moveOn() {
  const photos = shown(), at = photos.indexOf(chosen);
  const next = photos.slice(at + 1).find(isOpen) ?? photos.find(isOpen);
  if (next) choose(next); else nextPage();
}

// Decisions

function decide(decisions) {  // pairs of a photo and its labels, or null to skip it
  const before = decisions.map(([photo]) => photo.said);
  startedAt ??= performance.now();
  decisions.forEach(([photo, labels], n) => {
    labelledHere += Number(labels !== null && !Array.isArray(before[n]));
    photo.said = labels ?? SKIPPED;
    draw(photo);
  });
  tell("");
  inTurn(async () => {
    try {
      const body = {decisions: decisions.map(([photo, labels]) => ({photo: photo.image_hash, labels}))};
      showDecided((await ask("/api/review/decisions", body)).decided);
    } catch (error) {
      decisions.forEach(([photo], n) => { photo.said = before[n]; draw(photo); });
      throw error;
    }
  });
}

function showDecided(count) {
  byId("decided").textContent = count.toLocaleString();
  const minutes = Math.max((performance.now() - startedAt) / 60000, 1 / 20);
  byId("rate").textContent = Math.round(labelledHere / minutes).toLocaleString();
}

function say(id) {
  if (!chosen) return;
  if (info.kind === "single") {
    decide([[chosen, [id]]]);
    moveOn();
    return;
  }
  const labels = new Set(Array.isArray(chosen.said) ? chosen.said : chosen.suggestion);
  if (!labels.delete(id)) labels.add(id);
  decide([[chosen, info.labels.map((each) => each.id).filter((each) => labels.has(each))]]);
}

function sayNone() {
  if (!chosen || !info.none) return;
  decide([[chosen, []]]);
  moveOn();
}

function skip() {
  if (!chosen || Array.isArray(chosen.said)) return;
  decide([[chosen, null]]);
  moveOn();
}

function confirmGroup(photo) {
  if (!photo) return;
  const open = shown().filter((each) => isOpen(each) && groupOf(each) === groupOf(photo));
  if (open.length) decide(open.map((each) => [each, each.suggestion]));
  moveOn();
}

function undo() {
  inTurn(async () => {
    const {photos, decided} = await ask("/api/review/undo", {});
    if (photos.length === 0) { tell("There is nothing more to take back."); return; }
    for (const hash of photos) {
      const photo = known.get(hash);
      if (!photo) continue;
      labelledHere -= Number(Array.isArray(photo.said));
      photo.said = null;
    }
    const number = pages.findLastIndex((page) => page.some((photo) => photo.image_hash === photos[0]));
    if (number >= 0) showPage(number);
    if (known.has(photos[0])) choose(known.get(photos[0]));
    if (startedAt !== null) showDecided(decided);
  });
}

// Keys

function overlay() {
  const dialog = byId("overlay");
  if (dialog.open) { dialog.close(); return; }
  if (!chosen) return;
  byId("overlay-image").src = picture(chosen.image_hash, "large");
  dialog.showModal();
}

const KEYS = {
  Enter: () => confirmGroup(chosen), u: undo, s: skip, 0: sayNone, " ": overlay, "/": () => byId("search").focus(),
  ArrowLeft: () => move(-1), ArrowRight: () => move(1), ArrowUp: () => moveByRow(-1), ArrowDown: () => moveByRow(1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === byId("search")) return;
  const label = /^[1-9]$/.test(event.key) ? chosen?.choices[Number(event.key) - 1] : undefined;
  const act = label !== undefined ? () => say(label) : KEYS[event.key];
  if (!act || (event.repeat && !event.key.startsWith("Arrow"))) return;
  event.preventDefault();
  act();
});

byId("search").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== "Escape") return;
  event.preventDefault();
  const text = event.target.value.trim().toLowerCase();
  const found = info.labels.find((each) => [each.id, each.name].some((name) => name.toLowerCase() === text));
  event.target.value = "";
  event.target.blur();
  if (event.key === "Escape") return;
  if (found) say(found.id); else tell(`No label is called ${text}: choose one of the list.`);
});

for (const [id, act] of [["none", sayNone], ["skip", skip], ["undo", undo]]) byId(id).addEventListener("click", act);
document.addEventListener("click", (event) => event.target.closest("button")?.blur());  // Enter is the group's
byId("overlay").addEventListener("click", overlay);

async function start() {
  info = await ask("/api/review");
  for (const {id, name} of info.labels) names.set(id, name);
  byId("labels").replaceChildren(...info.labels.map(({name}) => element("option", {value: name})));
  byId("none").hidden = !info.none;
  byId("sure").textContent = info.sure.reduce((sum, each) => sum + each.photos, 0).toLocaleString();
  byId("sure-labels").replaceChildren(...info.sure.map(({name, photos}) => element("li", {textContent: `${name}: ${photos}`})));
  await nextPage();
}

inTurn(async () => {}).then(start).catch((error) => tell(error.message));
