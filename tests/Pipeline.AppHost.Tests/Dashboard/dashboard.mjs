// What the Aspire dashboard shows of a running pipeline, as JSON on standard output.
//   node dashboard.mjs LOGIN_URL TRACE_ID CHROMIUM SCREENSHOTS_FOLDER
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [loginUrl, traceId, executablePath, screenshots] = process.argv.slice(2);
const timeout = 60_000;
// Whoever runs the tests in a container is root there, and Chromium's sandbox does not take root.
const browser = await chromium.launch({ executablePath, args: process.getuid() === 0 ? ['--no-sandbox'] : [] });
try {
  const page = await browser.newPage({ viewport: { width: 1500, height: 700 } });
  page.setDefaultTimeout(timeout);
  const rows = async () => (await page.getByRole('row').allInnerTexts()).map(text => text.split(/\s*\n\s*/).filter(Boolean));

  // Every row of the resources' table: name, state, …
  await page.goto(loginUrl);
  await page.getByRole('row').filter({ hasText: 'loader' }).first().waitFor();
  const resources = await rows();
  await page.screenshot({ path: join(screenshots, 'dashboard.png') });

  const origin = new URL(loginUrl).origin;
  await page.goto(`${origin}/consolelogs/resource/process-orders`);
  const log = page.locator('.log-container, .console-container').first();
  await log.filter({ hasText: 'Stored' }).waitFor();
  const consoleLog = await log.innerText();

  // The spans arrive within a second or two; the page follows them.
  await page.goto(`${origin}/traces/detail/${traceId}`);
  await page.getByRole('row').filter({ hasText: 'loader' }).first().waitFor();
  const spans = await rows();
  await page.screenshot({ path: join(screenshots, 'traces.png') });

  console.log(JSON.stringify({ resources, consoleLog, spans }));
} finally {
  await browser.close();
}
