"use strict";

const PAGE_USERS = 10;
const LOG_LINES_MAX = 100;
const PHOTO_POLL_MS = 400;
const PHOTO_POLLS_MAX = 150;

const $ = (id) => document.getElementById(id);

/** An element with text and classes; text never becomes markup. */
function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function button(label, onClick) {
  const made = element("button", label);
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}

/** Asks the site, and shows the request in the log. */
async function ask(method, path, options = {}) {
  const begun = performance.now();
  let response;
  try {
    response = await fetch(path, { method, cache: "no-store", ...options });
  } catch {
    response = new Response(null, { status: 503, statusText: "no answer" });
  }
  const answer = {
    status: response.status,
    ok: response.ok,
    server: response.headers.get("x-served-by") ?? "",
    cache: response.headers.get("x-cache") ?? "",
    response,
  };
  const line = element("tr");
  line.append(
    element("td", `${method} ${path}`),
    element("td", String(answer.status), response.status >= 400 ? "error" : ""),
    element("td", answer.server),
    element("td", answer.cache, answer.cache),
    element("td", `${(performance.now() - begun).toFixed(1)} ms`),
  );
  $("log").prepend(line);
  while ($("log").rows.length > LOG_LINES_MAX) $("log").deleteRow(-1);
  return answer;
}

/** What went wrong, in words. */
async function detail(answer) {
  try {
    return (await answer.response.json()).detail;
  } catch {
    return `the site answered ${answer.status}`;
  }
}

// Users

let pages = [0];
let editing;

async function showUsers() {
  const list = await ask("GET", `/users?after=${pages.at(-1)}&limit=${PAGE_USERS}`);
  if (!list.ok) {
    const line = element("tr");
    const cell = element("td", await detail(list), "error");
    cell.colSpan = 7;
    line.append(cell);
    $("users").replaceChildren(line);
    return;
  }
  const page = await list.response.json();
  const lines = await Promise.all(page.ids.map(userLine));
  $("users").replaceChildren(...lines.filter((line) => line));
  $("previous").disabled = pages.length === 1;
  $("next").disabled = !page.next;
  $("next").dataset.after = page.ids.at(-1) ?? 0;
}

async function userLine(id) {
  const answer = await ask("GET", `/users/${id}`);
  if (answer.status === 404) return undefined;
  const line = element("tr");
  line.append(element("td", String(id)));
  if (!answer.ok) {
    const cell = element("td", await detail(answer), "error");
    cell.colSpan = 6;
    line.append(cell);
    return line;
  }
  const user = await answer.response.json();
  const { streetAddress, city, state, postalCode } = user.address;
  const change = element("td");
  const edit = button("Edit", () => openEditor(user));
  edit.setAttribute("aria-label", `Edit ${user.firstName} ${user.lastName}`);
  change.append(edit);
  line.append(
    element("td", `${user.firstName} ${user.lastName}`),
    element("td", `${streetAddress}, ${city}, ${state} ${postalCode}`),
    element("td", user.phoneNumbers.join(", ")),
    element("td", answer.cache, answer.cache),
    element("td", answer.server),
    change,
  );
  return line;
}

function openEditor(user) {
  editing = user.id;
  const fields = $("edit").querySelector("form").elements;
  const { address, phoneNumbers, ...names } = user;
  for (const [name, value] of Object.entries({ ...names, ...address, phoneNumbers: phoneNumbers.join(", ") })) {
    if (fields[name]) fields[name].value = value;
  }
  $("edit-title").textContent = `User ${user.id}`;
  $("edit-error").textContent = "";
  $("edit").showModal();
}

$("save").addEventListener("click", async () => {
  const form = $("edit").querySelector("form");
  if (!form.reportValidity()) return;
  const value = (name) => form.elements[name].value.trim();
  const patch = {
    firstName: value("firstName"),
    lastName: value("lastName"),
    address: {
      streetAddress: value("streetAddress"),
      city: value("city"),
      state: value("state"),
      postalCode: Number(value("postalCode")),
    },
    phoneNumbers: value("phoneNumbers").split(",").map((phone) => phone.trim()).filter((phone) => phone),
  };
  const answer = await ask("PATCH", `/users/${editing}`, {
    headers: { "content-type": "application/merge-patch+json" },
    body: JSON.stringify(patch),
  });
  await closeEditor(answer);
});

$("delete").addEventListener("click", async () => closeEditor(await ask("DELETE", `/users/${editing}`)));

async function closeEditor(answer) {
  if (answer.ok) {
    $("edit").close();
    await showUsers();
  } else {
    $("edit-error").textContent = await detail(answer);
  }
}

$("reload").addEventListener("click", showUsers);
$("previous").addEventListener("click", () => {
  pages.pop();
  showUsers();
});
$("next").addEventListener("click", () => {
  pages.push(Number($("next").dataset.after));
  showUsers();
});

// Session

async function showMe() {
  const answer = await ask("GET", "/me");
  if (answer.ok) {
    const user = await answer.response.json();
    const text = element("span", `Logged in as ${user.firstName} ${user.lastName}, says ${answer.server}.`);
    $("me").replaceChildren(text, button("Ask again", showMe), button("Log out", async () => {
      await ask("POST", "/logout");
      await showMe();
    }));
    return;
  }
  const form = element("form", undefined, "bar");
  const id = Object.assign(element("input"), {
    type: "number", min: 1, required: true, value: 12, id: "login-id", autocomplete: "username",
  });
  const password = Object.assign(element("input"), {
    type: "password", required: true, value: "millrace", id: "login-password", autocomplete: "current-password",
  });
  const idLabel = Object.assign(element("label", "User"), { htmlFor: id.id });
  const passwordLabel = Object.assign(element("label", "Password"), { htmlFor: password.id });
  const error = element("span", answer.status === 401 ? "" : await detail(answer), "error");
  form.append(idLabel, id, passwordLabel, password, element("button", "Log in", "main"), error);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const login = await ask("POST", "/login", {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ id: Number(id.value), password: password.value }),
    });
    if (login.ok) await showMe();
    else error.textContent = await detail(login);
  });
  $("me").replaceChildren(form);
}

// Photo

let sample;

function operations() {
  const fields = $("photo").elements;
  const value = (name) => fields[name].value;
  const all = {
    crop: `crop:${value("crop-x")}x${value("crop-y")}+${value("crop-width")}x${value("crop-height")}`,
    resize: `resize:${value("resize-width")}x${value("resize-height")}`,
    blur: `blur:${value("blur-sigma")}`,
    sharpen: `sharpen:${value("sharpen-sigma")}`,
  };
  return Object.keys(all).filter((name) => fields[name].checked).map((name) => all[name]).join(",");
}

function showOperations() {
  $("ops").textContent = `POST /photos?ops=${operations()}`;
}

function showPicture(which, source, caption) {
  const picture = $(which);
  picture.src = source;
  picture.alt = caption;
  picture.hidden = false;
  $(`${which}-caption`).textContent = caption;
}

/** A picture with edges and gradients, so that every operation shows. */
function drawSample() {
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 480 });
  const pen = canvas.getContext("2d");
  const sky = pen.createLinearGradient(0, 0, 0, 480);
  sky.addColorStop(0, "#2b6f9e");
  sky.addColorStop(1, "#f2c979");
  pen.fillStyle = sky;
  pen.fillRect(0, 0, 640, 480);
  pen.fillStyle = "#fff3c4";
  pen.beginPath();
  pen.arc(470, 130, 46, 0, 2 * Math.PI);
  pen.fill();
  for (const [color, base, height] of [["#4d7a6a", 330, 60], ["#2f5648", 380, 40], ["#1d3a30", 430, 26]]) {
    pen.fillStyle = color;
    pen.beginPath();
    pen.moveTo(0, 480);
    for (let x = 0; x <= 640; x += 4) pen.lineTo(x, base + height * Math.sin(x / 70 + base) * Math.cos(x / 31));
    pen.lineTo(640, 480);
    pen.fill();
  }
  pen.strokeStyle = "#5b3d1e";
  pen.lineWidth = 7;
  pen.beginPath();
  pen.arc(170, 330, 78, 0, 2 * Math.PI);
  for (let spoke = 0; spoke < 12; spoke += 1) {
    const angle = (spoke * Math.PI) / 6;
    pen.moveTo(170, 330);
    pen.lineTo(170 + 96 * Math.cos(angle), 330 + 96 * Math.sin(angle));
  }
  pen.stroke();
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

async function sendPhoto(event) {
  event.preventDefault();
  const picture = $("file").files[0] ?? sample ?? (sample = await drawSample());
  showPicture("before", URL.createObjectURL(picture), "Before");
  $("after").hidden = true;
  $("after-caption").textContent = "";
  const say = (text, className = "") => Object.assign($("photo-state"), { textContent: text, className });
  say("Sending …");
  const path = `/photos?ops=${encodeURIComponent(operations())}`;
  const sent = await ask("POST", path, { headers: { "content-type": picture.type }, body: picture });
  if (!sent.ok) return say(await detail(sent), "error");
  const location = sent.response.headers.get("location");
  for (let poll = 0; poll < PHOTO_POLLS_MAX; poll += 1) {
    say(`In the queue: ${location}`);
    await new Promise((resolve) => setTimeout(resolve, PHOTO_POLL_MS));
    const got = await ask("GET", location);
    if (got.status === 200) {
      showPicture("after", URL.createObjectURL(await got.response.blob()), "After");
      return say(`Done: ${location}`);
    }
    // 503 is a store that is away for a moment.
    if (got.status !== 202 && got.status !== 503) return say(await detail(got), "error");
  }
  return say(`No worker has done it yet; it stays in the queue: ${location}`, "error");
}

$("photo").addEventListener("submit", sendPhoto);
$("photo").addEventListener("input", showOperations);
$("sample").addEventListener("click", async () => {
  sample ??= await drawSample();
  $("file").value = "";
  showPicture("before", URL.createObjectURL(sample), "Before");
});

showOperations();
showMe();
showUsers();
