// Bootstrap's tooltips remove the titles, which are the names of buttons without text.
for (const button of document.querySelectorAll("button[title]")) {
  button.setAttribute("aria-label", button.textContent.trim() || button.title);
}
