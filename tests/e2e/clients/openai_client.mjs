// Talks to an OpenAI-compatible server through the official JavaScript client and checks the
// answers.
//
//     node tests/e2e/clients/openai_client.mjs BASE_URL MODEL [--skip PREFIX] [--only PREFIX]
//
// BASE_URL without /v1. Needs: npm install in this folder (checked with Node 20). Output
// and checks as in openai_client.py; keep them alike.

import OpenAI from "openai";

const PROMPT = "Once upon a time, there was a little girl named Lily. One day,";
const MESSAGES = [
  { role: "user", content: "What is the capital of France? Tell me about it." },
];
const TRICKY = 'Répète: 🎉 你好 مرحبا e\u0301\n\t"quoted" \\ end';
const GREEDY = { temperature: 0, max_tokens: 24 };
const SAMPLED = { temperature: 1, max_tokens: 24 };
const TIMEOUT_MS = 120_000;

const checks = [];
const check = (name, body) => checks.push({ name, body });

function expect(condition, what, ...seen) {
  if (!condition) throw new Error([what, ...seen.map((x) => JSON.stringify(x))].join("; "));
}

const equal = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function expectUsage(usage, choices = 1, tokensMax = 24) {
  expect(usage, "no usage");
  expect(usage.prompt_tokens > 0, "no prompt tokens", usage);
  const { completion_tokens: made } = usage;
  expect(made > 0 && made <= choices * tokensMax, "completion tokens", usage);
  expect(usage.total_tokens === usage.prompt_tokens + made, "total", usage);
}

async function expectError(kind, status, call, { param, names } = {}) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof kind)) throw error;
    expect(error.status === status, "status", error.status);
    expect(error.error?.message, "no message", error.error);
    expect(error.error.type, "no type", error.error);
    expect("param" in error.error && "code" in error.error, "no param or code", error.error);
    if (param) expect(error.param === param, `param is not ${param}`, error.error);
    if (names) expect(error.error.message.includes(names), `does not name ${names}`, error.error);
    return;
  }
  throw new Error(`no ${kind.name}`);
}

// {texts by choice, finishes by choice, chunks}
async function readStream(stream) {
  const texts = {}, finishes = {}, chunks = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
    for (const choice of chunk.choices) {
      const piece = choice.text ?? choice.delta?.content ?? "";
      texts[choice.index] = (texts[choice.index] ?? "") + piece;
      if (choice.finish_reason) {
        expect(!(choice.index in finishes), "finished twice", choice.index);
        finishes[choice.index] = choice.finish_reason;
      }
    }
  }
  expect(new Set(chunks.map((c) => c.id)).size === 1, "the id changes within a stream");
  return { texts, finishes, chunks };
}

class Server {
  constructor(baseUrl, model) {
    this.url = baseUrl.replace(/\/+$/, "");
    this.model = model;
    this.client = new OpenAI({
      baseURL: `${this.url}/v1`,
      apiKey: "none",
      maxRetries: 0,
      timeout: TIMEOUT_MS,
    });
  }
  chat(fields = {}, options = undefined) {
    const body = { model: this.model, messages: MESSAGES, ...GREEDY, ...fields };
    return this.client.chat.completions.create(body, options);
  }
  complete(fields = {}, options = undefined) {
    const body = { model: this.model, prompt: PROMPT, ...GREEDY, ...fields };
    return this.client.completions.create(body, options);
  }
  async text(fields = {}) {
    return (await this.complete(fields)).choices[0].text;
  }
  raw(path, body) {
    const headers = { "content-type": "application/json" };
    return fetch(this.url + path, body === undefined ? {} : { method: "POST", headers, body });
  }
}

// ----------------------------------------------------------------------------------------- models

check("models.list", async (server) => {
  const ids = [];
  for await (const model of server.client.models.list()) {
    expect(model.object === "model", "object", model);
    ids.push(model.id);
  }
  expect(ids.includes(server.model), "the model is not listed", ids);
});

// ------------------------------------------------------------------------------------------- chat

check("chat.answer", async (server) => {
  const before = Date.now() / 1000;
  const answer = await server.chat();
  expect(answer.object === "chat.completion", "object", answer.object);
  expect(answer.id.startsWith("chatcmpl-"), "id", answer.id);
  expect(answer.model === server.model, "model", answer.model);
  expect(Math.abs(answer.created - before) < 30, "created", answer.created);
  expect(answer.choices.length === 1, "choices", answer.choices);
  const [choice] = answer.choices;
  expect(choice.index === 0 && choice.message.role === "assistant", "choice", choice);
  expect(choice.message.content, "no content", choice);
  expect(["stop", "length"].includes(choice.finish_reason), "finish", choice);
  expectUsage(answer.usage);
});

check("chat.stream", async (server) => {
  const whole = (await server.chat()).choices[0];
  const { texts, finishes, chunks } = await readStream(await server.chat({ stream: true }));
  expect(chunks[0].choices[0].delta.role === "assistant", "first chunk", chunks[0]);
  expect(chunks.every((c) => c.object === "chat.completion.chunk"), "object");
  expect(equal(texts, { 0: whole.message.content }), "text differs", texts, whole);
  expect(equal(finishes, { 0: whole.finish_reason }), "finish differs", finishes);
  expect(chunks.every((c) => !c.usage), "usage that nobody asked for");
});

check("chat.stream.usage", async (server) => {
  const whole = await server.chat();
  const fields = { stream: true, stream_options: { include_usage: true } };
  const { chunks } = await readStream(await server.chat(fields));
  const last = chunks.pop();
  expect(equal(last.choices, []), "last chunk has choices", last);
  expectUsage(last.usage);
  expect(last.usage.completion_tokens === whole.usage.completion_tokens, "counts differ", last);
  expect(last.usage.prompt_tokens === whole.usage.prompt_tokens, "counts differ", last);
  expect(chunks.every((c) => c.usage === null), "usage before the last chunk");
});

check("chat.stream.helper", async (server) => {
  const whole = (await server.chat()).choices[0].message.content;
  const body = { model: server.model, messages: MESSAGES, ...GREEDY };
  const helper = server.client.chat.completions.stream(body);
  let seen = "";
  helper.on("content", (piece) => (seen += piece));
  const answer = await helper.finalChatCompletion();
  expect(answer.choices[0].message.content === whole && seen === whole, "text differs", seen);
});

check("chat.n", async (server) => {
  const fields = { n: 2, seed: 11, ...SAMPLED };
  const answer = await server.chat(fields);
  expect(equal(answer.choices.map((c) => c.index), [0, 1]), "indices", answer.choices);
  expectUsage(answer.usage, 2);
  const { texts, finishes } = await readStream(await server.chat({ ...fields, stream: true }));
  for (const choice of answer.choices) {
    expect(texts[choice.index] === choice.message.content, "stream differs", texts, choice);
    expect(finishes[choice.index], "a choice has no end", finishes);
  }
});

check("chat.logprobs", async (server) => {
  const answer = await server.chat({ logprobs: true, top_logprobs: 3 });
  const entries = answer.choices[0].logprobs.content;
  const { completion_tokens: made } = answer.usage;
  expect(entries.length > 0 && entries.length <= made, "count", entries.length);
  for (const entry of entries) {
    const ranked = entry.top_logprobs.map((top) => top.logprob);
    expect(entry.logprob <= 0 && ranked.length === 3, "entry", entry);
    expect(equal(ranked, [...ranked].sort((a, b) => b - a)), "not sorted", entry);
    expect(Math.abs(ranked[0] - entry.logprob) < 1e-4, "greedy token is not the best", entry);
  }
  const text = Buffer.from(entries.flatMap((entry) => entry.bytes)).toString();
  const content = answer.choices[0].message.content;
  expect(text.includes(content.trim()), "bytes are not the text", text, content);
});

check("chat.max_completion_tokens", async (server) => {
  const fields = { max_tokens: undefined, max_completion_tokens: 3 };
  const answer = await server.chat(fields);
  expect(answer.usage.completion_tokens <= 3, "too many tokens", answer.usage);
  expect(answer.choices[0].finish_reason === "length", "finish", answer.choices[0]);
});

check("chat.content_parts", async (server) => {
  const content = [{ type: "text", text: MESSAGES[0].content }];
  const parts = await server.chat({ messages: [{ role: "user", content }] });
  const plain = await server.chat();
  expect(parts.choices[0].message.content === plain.choices[0].message.content,
    "a list of one text part differs from the text");
});

check("chat.unicode", async (server) => {
  const messages = [{ role: "user", content: TRICKY }];
  const whole = (await server.chat({ messages })).choices[0].message.content;
  const { texts } = await readStream(await server.chat({ messages, stream: true }));
  expect(equal(texts, { 0: whole }), "stream and answer differ", texts, whole);
});

// ------------------------------------------------------------------------------------ completions

check("completions.answer", async (server) => {
  const answer = await server.complete();
  expect(answer.object === "text_completion" && answer.id.startsWith("cmpl-"), "head", answer);
  expect(answer.choices.length === 1 && answer.choices[0].text, "choice", answer.choices);
  expect(["stop", "length"].includes(answer.choices[0].finish_reason), "finish", answer.choices);
  expectUsage(answer.usage);
});

check("completions.stream", async (server) => {
  const whole = await server.complete();
  const fields = { stream: true, stream_options: { include_usage: true } };
  const { texts, finishes, chunks } = await readStream(await server.complete(fields));
  expect(equal(texts, { 0: whole.choices[0].text }), "text differs", texts, whole);
  expect(equal(finishes, { 0: whole.choices[0].finish_reason }), "finish differs", finishes);
  expect(chunks.at(-1).usage.total_tokens === whole.usage.total_tokens, "usage", chunks.at(-1));
});

check("completions.echo", async (server) => {
  const whole = await server.complete();
  const echoed = await server.complete({ echo: true });
  expect(echoed.choices[0].text === PROMPT + whole.choices[0].text, "echo", echoed.choices[0]);
  expect(echoed.usage.completion_tokens === whole.usage.completion_tokens, "usage", echoed);
  const { texts } = await readStream(await server.complete({ echo: true, stream: true }));
  expect(equal(texts, { 0: echoed.choices[0].text }), "stream and answer differ", texts);
});

check("completions.logprobs", async (server) => {
  const answer = await server.complete({ logprobs: 2 });
  const found = answer.choices[0].logprobs;
  const count = found.tokens.length;
  expect(count > 0 && count <= answer.usage.completion_tokens, "count", count, answer.usage);
  expect(found.token_logprobs.length === count && found.text_offset.length === count, "lengths",
    found);
  expect(found.token_logprobs.every((x) => x <= 0), "positive", found.token_logprobs);
  const sizes = found.top_logprobs.map((top) => Object.keys(top).length);
  expect(sizes.every((size) => size >= 1 && size <= 3), "top", sizes);
  expect(equal(found.text_offset, [...found.text_offset].sort((a, b) => a - b)), "offsets", found);
  const tokens = [];
  for await (const chunk of await server.complete({ logprobs: 2, stream: true })) {
    for (const choice of chunk.choices) tokens.push(...(choice.logprobs?.tokens ?? []));
  }
  expect(equal(tokens, found.tokens), "stream and answer differ", tokens, found.tokens);
});

check("completions.n", async (server) => {
  const answer = await server.complete({ n: 2, seed: 5, ...SAMPLED });
  expect(equal(answer.choices.map((c) => c.index), [0, 1]), "indices", answer.choices);
  expect(answer.choices[0].text !== answer.choices[1].text, "two samples are equal", answer);
  expectUsage(answer.usage, 2);
});

check("completions.stop", async (server) => {
  const whole = Array.from(await server.text());  // code points: never half of a pair
  const middle = Math.floor(whole.length / 2);
  const stop = whole.slice(middle, middle + 3).join("");
  const wanted = whole.join("").split(stop)[0];
  const answer = await server.complete({ stop });
  expect(answer.choices[0].text === wanted, "text", answer.choices[0].text, wanted);
  expect(answer.choices[0].finish_reason === "stop", "finish", answer.choices[0]);
  const fields = { stop: ["\0never", stop], stream: true };
  const { texts, finishes } = await readStream(await server.complete(fields));
  expect((texts[0] ?? "") === wanted && equal(finishes, { 0: "stop" }), "stream", texts, finishes);
});

check("completions.seed", async (server) => {
  const first = await server.text({ seed: 7, ...SAMPLED });
  expect((await server.text({ seed: 7, ...SAMPLED })) === first, "same seed, other text");
  const stream = await server.complete({ seed: 7, stream: true, ...SAMPLED });
  const { texts } = await readStream(stream);
  expect(equal(texts, { 0: first }), "same seed, other text in the stream", texts, first);
  expect((await server.text({ seed: 8, ...SAMPLED })) !== first, "other seed, same text");
});

check("completions.sampling_fields", async (server) => {
  const answer = await server.complete({
    temperature: 0.8, top_p: 0.9, presence_penalty: 0.5, frequency_penalty: 0.5, seed: 1,
    logit_bias: { 5: -100 }, max_tokens: 8, user: "someone",
    top_k: 20, min_p: 0.01, repetition_penalty: 1.1, min_tokens: 2,
  });
  const { completion_tokens: made } = answer.usage;
  expect(made >= 2 && made <= 8, "tokens", answer.usage);
});

// ------------------------------------------------------------------------------ load and abortion

check("concurrent", async (server) => {
  const alone = await server.text();
  const one = async (index) => {
    if (index % 2 === 0) return server.text();
    return (await readStream(await server.complete({ stream: true }))).texts[0];
  };
  for (const text of await Promise.all([0, 1, 2, 3, 4, 5, 6, 7].map(one))) {
    expect(text === alone, "depends on its neighbours", text, alone);
  }
});

check("abort", async (server) => {
  const long = { stream: true, max_tokens: 300, ignore_eos: true };
  for (let round = 0; round < 4; ++round) {
    const stream = await server.complete(long);
    let count = 0;
    for await (const _ of stream) {
      if (++count < 3) continue;
      if (round % 2 === 0) break; // leaving the loop aborts
      stream.controller.abort();
    }
    expect(count < 300, "the stream did not end", count);
  }
  const controller = new AbortController();
  const answer = server.complete({ ...long, stream: false }, { signal: controller.signal });
  controller.abort();
  const outcome = await answer.then(() => null, (error) => error);
  expect(outcome instanceof OpenAI.APIUserAbortError, "not aborted", String(outcome));
  const begin = Date.now();
  expect(await server.text(), "no answer after aborted streams");
  expect(Date.now() - begin < 20_000, "slow after aborted streams", Date.now() - begin);
});

check("client_timeout", async (server) => {
  const fields = { max_tokens: 300, ignore_eos: true };
  const outcome = await server.complete(fields, { timeout: 1 }).then(() => null, (error) => error);
  expect(outcome instanceof OpenAI.APIConnectionTimeoutError, "no timeout", String(outcome));
  expect(await server.text(), "no answer after a client's timeout");
});

// ----------------------------------------------------------------------------------------- errors

check("errors.unknown_model", async (server) => {
  const model = "no-such-model";
  for (const stream of [false, true]) {
    for (const call of [() => server.chat({ model, stream }),
      () => server.complete({ model, stream })]) {
      await expectError(OpenAI.NotFoundError, 404, call, { names: model });
    }
  }
});

check("errors.unsupported_field", async (server) => {
  const refused = (call, field) =>
    expectError(OpenAI.BadRequestError, 400, call, { param: field, names: field });
  await refused(() => server.chat({ not_a_field: 1 }), "not_a_field");
  await refused(() => server.complete({ not_a_field: 1 }), "not_a_field");
  await refused(() => server.complete({ best_of: 3 }), "best_of");
  const format = { response_format: { type: "json_object" } };
  await refused(() => server.chat(format), "response_format");
});

check("errors.invalid_value", async (server) => {
  for (const [field, value] of Object.entries({ temperature: -1, top_p: 7, n: 0,
    max_tokens: -1 })) {
    await expectError(OpenAI.BadRequestError, 400, () => server.chat({ [field]: value }),
      { param: field, names: field });
  }
  await expectError(OpenAI.BadRequestError, 400, () => server.chat({ messages: [] }),
    { param: "messages" });
});

check("errors.context_length", async (server) => {
  const prompt = "word ".repeat(20_000);
  const outcome = await server.complete({ prompt }).then(() => null, (error) => error);
  expect(outcome instanceof OpenAI.APIError, "20,000 words were accepted", String(outcome));
  expect([400, 413].includes(outcome.status), "status", outcome.status);
  expect(outcome.error?.message, "no error object", outcome.error);
});

check("errors.not_json", async (server) => {
  const answer = await server.raw("/v1/completions", '{"model": ');
  expect(answer.status === 400, "status", answer.status);
  expect((await answer.json()).error.message, "no message");
});

check("errors.unknown_path", async (server) => {
  const answer = await server.raw("/v1/no-such-path");
  expect(answer.status === 404, "status", answer.status);
  expect((await answer.json()).error.message, "no message");
});

check("headers", async (server) => {
  const body = { model: server.model, prompt: PROMPT, ...GREEDY };
  const type = (answer) => answer.headers.get("content-type");
  const answer = await server.raw("/v1/completions", JSON.stringify(body));
  expect(type(answer).startsWith("application/json"), "type of an answer", type(answer));
  await answer.text();
  const stream = await server.raw("/v1/completions", JSON.stringify({ ...body, stream: true }));
  expect(type(stream).startsWith("text/event-stream"), "type of a stream", type(stream));
  const text = await stream.text();
  expect(text.endsWith("data: [DONE]\n\n"), "the stream's end", text.slice(-100));
});

async function run({ name, body }, server) {
  const begin = Date.now();
  try {
    await body(server);
  } catch (error) {
    const frames = (error.stack ?? "").split("\n").filter((x) => !/at (async )?expect/.test(x));
    const line = Number(/openai_client\.mjs:(\d+)/.exec(frames.join("\n"))?.[1] ?? 0);
    const text = `${error.constructor.name}: ${error.message}`.slice(0, 2000);
    console.log(JSON.stringify({ check: name, ok: false, line, error: text }));
    return false;
  }
  console.log(JSON.stringify({ check: name, ok: true, ms: Date.now() - begin }));
  return true;
}

async function main() {
  const names = [], skip = [];
  let only = "";
  const args = process.argv.slice(2);
  while (args.length > 0) {
    const arg = args.shift();
    if (arg === "--skip" && args.length > 0) skip.push(args.shift());
    else if (arg === "--only" && args.length > 0) only = args.shift();
    else names.push(arg);
  }
  if (names.length !== 2 || names.some((name) => name.startsWith("--"))) {
    console.error("usage: openai_client.mjs BASE_URL MODEL [--skip PREFIX] [--only PREFIX]");
    return 2;
  }
  const server = new Server(...names);
  const chosen = checks.filter(
    ({ name }) => name.startsWith(only) && !skip.some((prefix) => name.startsWith(prefix)));
  if (chosen.length === 0) {
    console.error("no check has such a name");
    return 2;
  }
  let failed = 0;
  for (const one of chosen) failed += (await run(one, server)) ? 0 : 1;
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main();
