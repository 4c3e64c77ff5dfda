// Where the broker is, the control line, and the JSON line for each scenario. Knows no client library.

import assert from 'node:assert/strict';
import net from 'node:net';
import { setTimeout as rest } from 'node:timers/promises';

export const host = process.env.AMQP_HOST;
export const port = Number(process.env.AMQP_PORT);
export const tlsPort = Number(process.env.AMQP_TLS_PORT);
export const prefix = process.env.AMQP_PREFIX;
export const large = Buffer.alloc(8 * 1024 * 1024, Buffer.from(Array.from({ length: 256 }, (_, octet) => octet)));
const PATIENCE = 30_000;

export const same = assert.deepStrictEqual;

export class Cannot extends Error {}

export const fibonacci = (n) => (n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2));

export function control(...words) {
  return new Promise((resolve, reject) => {
    const line = net.connect(Number(process.env.AMQP_CONTROL), '127.0.0.1', () => line.write(`${words.join(' ')}\n`));
    let answer = '';
    line.on('error', reject);
    line.on('data', (piece) => {
      answer += piece;
      if (!answer.endsWith('\n')) return;
      line.end();
      if (answer.startsWith('ok')) resolve(answer.slice(3).trim());
      else reject(new Error(`${words.join(' ')}: ${answer.trim()}`));
    });
  });
}

export async function until(condition, what) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${PATIENCE / 1000} s: ${what}`);
    await rest(20);
  }
}

export async function main(scenarios) {
  for (const scenario of process.argv.length > 2 ? process.argv.slice(2) : Object.keys(scenarios)) {
    let outcome = 'ok';
    let detail;
    try {
      detail = await scenarios[scenario]();
    } catch (error) {
      outcome = error instanceof Cannot ? 'cannot' : 'failed';
      detail = error instanceof Cannot ? error.message : String(error).slice(0, 400);
      if (outcome === 'failed') console.error(error);
    }
    console.log(JSON.stringify({ scenario, outcome, detail: detail ?? '' }));
  }
  process.exit(0);
}
