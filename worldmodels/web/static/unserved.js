// A browser lets no page that was opened from a disk read what lies beside it: whoever does so is told what to do.

if (location.protocol === "file:") {
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("what").textContent = "";
    const trouble = document.getElementById("trouble");
    trouble.hidden = false;
    trouble.textContent =
      "This page has to come from a server. In its folder: python -m http.server, then open http://localhost:8000/";
  });
}
