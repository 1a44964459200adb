// Units, reducers and transformations of boards, looked up in Grafana's own package; what is wrong is printed as JSON.
// node panels.cjs FOLDER-OF-PACKAGES BOARD.json...
globalThis.window = {};
globalThis.navigator ??= { languages: ["en"], language: "en" };
const fs = require("fs");
const [folder, ...boards] = process.argv.slice(2);
// Its entry point wants a browser; the modules behind it do not.
const part = (name) => require(`${folder}/@grafana/data/dist/cjs/${name}.cjs`);
const { getValueFormats, getValueFormat, formattedValueToString } = part("valueFormats/valueFormats");
const { fieldReducers } = part("transformations/fieldReducer");
const { DataTransformerID } = part("transformations/transformers/ids");
const { toDataFrame } = part("dataframe/processDataFrame");
const { getDisplayProcessor } = part("field/displayProcessor");
const { createTheme } = part("themes/createTheme");

const units = new Set(getValueFormats().flatMap((group) => group.submenu.map((format) => format.value)));
const transformations = new Set(Object.values(DataTransformerID));
const wrong = [];
const looked = { units: 0, reducers: 0, transformations: 0, readings: 0, days: 0 };

function checkUnit(where, unit, decimals) {
  looked.units += 1;
  if (!units.has(unit)) wrong.push(`${where}: Grafana has no unit ${unit}`);
  if (!["kwatth", "kwatt", "watt"].includes(unit)) return;
  looked.readings += 1;
  const shown = formattedValueToString(getValueFormat(unit)(22677, decimals));
  if (shown.replace(/\D/g, "").length < 3) wrong.push(`${where}: 22677 ${unit} is shown as ${shown}`);
}

for (const file of boards) {
  const board = JSON.parse(fs.readFileSync(file, "utf8"));
  for (const panel of board.panels) {
    const where = `${file}: ${panel.title}`;
    const { defaults, overrides } = panel.fieldConfig;
    checkUnit(where, defaults.unit, defaults.decimals);
    for (const override of overrides) {
      const own = Object.fromEntries(override.properties.map((p) => [p.id, p.value]));
      if (own.unit) checkUnit(`${where}: ${override.matcher.options}`, own.unit, own.decimals);
    }
    for (const reducer of panel.options?.reduceOptions?.calcs ?? []) {
      looked.reducers += 1;
      if (!fieldReducers.getIfExists(reducer)) wrong.push(`${where}: Grafana has no reducer ${reducer}`);
    }
    for (const one of panel.transformations ?? []) {
      looked.transformations += 1;
      if (!transformations.has(one.id)) wrong.push(`${where}: Grafana has no transformation ${one.id}`);
    }
  }
}

// A day at noon UTC has its own date in the tooltip of a browser anywhere from UTC-12 to UTC+11.
const noon = Date.parse("2026-10-25T12:00:00Z");
for (const timeZone of ["Pacific/Honolulu", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Asia/Shanghai"]) {
  const [field] = toDataFrame({ fields: [{ name: "time", type: "time", values: [noon], config: {} }] }).fields;
  const shown = getDisplayProcessor({ field, theme: createTheme(), timeZone })(noon).text;
  looked.days += 1;
  if (!shown.startsWith("2026-10-25")) wrong.push(`the day is shown as ${shown} in ${timeZone}`);
}
console.log(JSON.stringify({ wrong, looked }));
