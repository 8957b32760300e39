// What the theme, Sphinx and its gallery leave inaccessible.
addEventListener("load", () => {
  for (const box of document.querySelectorAll("div.math, mjx-container")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0 // so that the keyboard reaches it
  }
  for (const link of document.querySelectorAll(".sphx-glr-thumbcontainer a")) {
    link.setAttribute("aria-label", link.textContent) // its text is hidden
  }
  for (const entry of document.querySelectorAll(".citation-list, .citation")) entry.removeAttribute("role") // outdated
})
