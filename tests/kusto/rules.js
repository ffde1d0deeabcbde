// Parses the analytics rules with the parser of Log Analytics, against the table that the template creates, and
// prints every fault. Arguments: the folder of node modules, the folder of the rules.
const fs = require('fs');
const path = require('path');
const [modules, folder] = process.argv.slice(2);
const load = name => require(path.join(modules, '@kusto/language-service-next', name));
load('bridge.js');
load('Kusto.Language.Bridge.js');
const K = globalThis.Kusto.Language;
const arm = JSON.parse(fs.readFileSync(path.join(folder, 'azuredeploy.json')));
const columns = arm.resources[0].properties.schema.columns.map(c => `['${c.name}']:${c.type.toLowerCase()}`).join(', ');
const table = `let SecureScore_CL = datatable(${columns})[];\n`;
let faults = 0;
for (const rule of JSON.parse(fs.readFileSync(path.join(folder, 'analytics-rules.json'))).resources) {
  const { displayName, query, entityMappings } = rule.properties;
  const code = K.KustoCode.ParseAndAnalyze(table + query, K.GlobalState.Default);
  const diagnostics = code.GetDiagnostics();
  for (let i = 0; i < diagnostics.Count; i++) {
    const d = diagnostics.getItem(i);
    faults++;
    console.log(`${displayName}: ${d.Severity}: ${d.Message} at ${d.Start - table.length}`);
  }
  const columnsOfResult = code.ResultType?.Columns ?? { Count: 0 };
  const names = [];
  for (let i = 0; i < columnsOfResult.Count; i++) names.push(columnsOfResult.getItem(i).Name);
  for (const column of entityMappings.flatMap(m => m.fieldMappings).map(f => f.columnName))
    if (!names.includes(column)) { faults++; console.log(`${displayName}: no column ${column} in ${names}`); }
}
console.log(`${faults} faults`);
process.exit(faults ? 1 : 0);
