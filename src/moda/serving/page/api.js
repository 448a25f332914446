// Shows the OpenAPI description, with nothing loaded from elsewhere.
function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
}

function fieldsOf(schema, all) {
  if (schema.$ref) return fieldsOf(all[schema.$ref.split("/").pop()], all);
  const required = schema.required || [];
  return Object.entries(schema.properties || {}).map(([name, field]) => {
    const kinds = (field.anyOf || [field]).map((one) => one.format || one.contentMediaType || one.type);
    return `${name}: ${kinds.join(" or ")}${required.includes(name) ? "" : ", optional"}`;
  });
}

const description = await (await fetch("/openapi.json")).json();
const list = document.getElementById("list");
for (const [path, methods] of Object.entries(description.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const section = element("section", "", list);
    element("h2", `${method.toUpperCase()} ${path}`, section);
    element("p", operation.description || operation.summary || "", section);
    const content = Object.entries(operation.requestBody?.content || {});
    for (const [kind, body] of content) {
      element("p", kind, section);
      const names = element("ul", "", section);
      for (const field of fieldsOf(body.schema, description.components.schemas)) {
        element("li", field, names);
      }
    }
    const answers = Object.entries(operation.responses).map(([code, one]) => `${code} ${one.description}`);
    element("p", `Answers: ${answers.join("; ")}`, section);
  }
}
