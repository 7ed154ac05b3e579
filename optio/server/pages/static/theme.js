// Before the first paint, so that no page flashes in the other colours. The button is `keys.js`'s.
try { document.documentElement.dataset.theme = localStorage.getItem("theme") ?? ""; } catch { /* no storage: as the system has it */ }
