// The login: a password for a cookie; the address, with its ?batch=…, stays as it is.

import { ask } from "./api.js";
import { byId } from "./dom.js";
import { onLanguage, reason, switchLanguage, t } from "./text.js";

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const said = byId("said");
  said.textContent = "";
  try {
    await ask("/api/login", { method: "POST", json: { password: byId("password").value } });
    location.reload();
  } catch (error) {
    const { code, detail } = error;
    const known = { too_many: "tooManyTries", wrong_password: "wrongPassword" }[code];
    said.textContent = known || error.passing ? t(known || "noAnswer", detail) : reason(error);
    byId("password").select();
  }
});
byId("language").addEventListener("click", switchLanguage);
onLanguage(() => {});
