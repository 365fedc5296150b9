// Breaks one rule of the emulator at a time, in a copy of the repository, and shows which conformance case notices.
//   node tests/Pipeline.LambdaEmulator.Tests/mutants.mjs [TEXT: only those whose description contains it]
// Ends with 1 if a broken rule is noticed by no case, and with 2 if a text below is not found exactly once: then the
// code has changed, and the mutant with it.
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const source = 'Pipeline.LambdaEmulator';
const shard = `${source}/EventSource/ShardProcessor.cs`;
const queue = `${source}/EventSource/QueueProcessor.cs`;
const answer = `${source}/EventSource/BatchResponse.cs`;

// What goes wrong · file · text · its replacement
const mutants = [
  ['a batch gets one record more than BatchSize', shard,
    'while (records.Count < countMax', 'while (records.Count <= countMax'],
  ['a batch gets larger than the payload limit', shard,
    'bytes + next.Record.Json.Length + 1 <= PayloadBytesMax', 'bytes + next.Record.Json.Length <= 2L * PayloadBytesMax'],
  ['the batching window is not waited for', shard,
    'now >= oldest.ReadAt + _settings.BatchingWindow);', 'now >= oldest.ReadAt);'],
  ['one retry less than MaximumRetryAttempts', shard,
    'batch.FailedAttempts > _settings.RetryAttemptsMax', 'batch.FailedAttempts >= _settings.RetryAttemptsMax'],
  ['a record that has just got too old is sent', shard,
    'ExpiresAt(buffered) <= now', 'ExpiresAt(buffered) < now'],
  ['bisection uses up the retry attempts', shard,
    'lane.Retries.Push(batch.Slice(0, half, batch.FailedAttempts, now));', 'lane.Retries.Push(batch.Slice(0, half, batch.FailedAttempts + 1, now));'],
  ['throttling uses up the retry attempts', shard,
    'batch.Slice(0, batch.Count, batch.FailedAttempts, now + Backoff', 'batch.Slice(0, batch.Count, batch.FailedAttempts + 1, now + Backoff'],
  ['a filtered record holds the checkpoint back', shard,
    'Finish([buffered]);', '_ = buffered;'],
  ['the checkpoint passes records of another lane that are in flight', shard,
    '&& first.Done)', '&& (first.Done || _lanes.Length > 1))'],
  ['records that are processed or filtered out stop the reading', shard,
    'Buffered < 2 * _settings.BatchSize', '_aheadOfCheckpoint.Count < 2 * _settings.BatchSize'],
  ['changes of one item run in two lanes', shard,
    '_lanes[record.ItemHash % (ulong)_lanes.Length]', '_lanes[(_aheadOfCheckpoint.Count - 1) % _lanes.Length]'],
  ['the highest reported record decides', answer,
    'lowest = i;', 'lowest = lowest == batch.Count ? i : lowest;'],
  ['an identifier that is not in the batch is passed over', answer,
    'return reported.Count > 0 ? 0 : lowest;', 'return lowest;'],
  ['an answer that is not JSON is a success', answer,
    'IsMeantBy(e))\n        {\n            return null;', 'IsMeantBy(e))\n        {\n            return [];'],
  ['half of a surrogate pair in an answer ends the emulator', `${source}/EventSource/UnreadableJson.cs`,
    'e is JsonException or InvalidOperationException', 'e is JsonException'],
  ['a child shard does not wait for its parent', `${source}/Streams/Shard.cs`,
    '!unfinished.Contains(shard.ParentId)', '!unfinished.Contains("")'],
  ['LATEST is looked up anew at every start', `${source}/EventSource/EventSourceMapping.cs`,
    'file.Save(positions);', '_ = file;'],
  ['any error of a read ends a shard that is not listed', `${source}/EventSource/ShardWorker.cs`,
    'e.ErrorCode == "ResourceNotFoundException" && !_isListed', '!_isListed'],
  ['a shard that is listed again is still taken for trimmed away', `${source}/EventSource/EventSourceMapping.cs`,
    'worker.IsListed = listed.Contains(shardId);', 'if (!listed.Contains(shardId))\n            {\n                worker.IsListed = false;\n            }'],
  ['a table that is created anew is not noticed', `${source}/EventSource/EventSourceMapping.cs`,
    'await FindStreamAsync(cancellationToken) == StreamArn ?', 'StreamArn is not null ?'],
  ['the on-failure document names the wrong last record', `${source}/EventSource/FailureDocument.cs`,
    '"endSequenceNumber", discard.Batch.Last.SequenceNumber', '"endSequenceNumber", discard.Batch.First.SequenceNumber'],
  ['a message that failed is deleted', queue,
    'batch.Messages.Where(message => !failed.Contains(message.Id)).ToList()', 'batch.Messages.ToList()'],
  ['a throttled message is sent after the queue shows it again', queue,
    'retry.Held.TakeWhile(held => held.VisibleAt <= now)', 'retry.Held.TakeWhile(held => held.VisibleAt < now)'],
  ['a filtered message stays in the queue', queue,
    'filtered.Add(message);', '_ = message;'],
  ['two batches of a FIFO group are in flight', queue,
    '_waiting.Where(held => !groups.Contains(held.Message.GroupId))', '_waiting.Where(held => groups.Count >= 0)'],
  ['messages are received although no environment could take them', `${source}/EventSource/QueueMapping.cs`,
    'await function.WhenFreeAsync(cancellationToken);', 'await Task.Yield();'],
  ['a message that cannot be deleted holds the others of its batch', `${source}/EventSource/QueueMapping.cs`,
    'if (reason.Length > 0 && time.GetUtcNow() >= visibleAt)', 'if (reason.Length > 0)'],
  ['deletions do not count as batches in flight', queue,
    '_inFlight.Count + _retries.Count + _deletions <', '_inFlight.Count + _retries.Count <'],
  ['an invocation that was given up keeps its place', `${source}/Functions/LambdaFunction.cs`,
    '            _waiting.Remove(entry);\n', ''],
  ['the function\'s deadline is not kept', `${source}/Functions/LambdaFunction.cs`,
    'delivery.OnDeadline(time, definition.Timeout,', 'delivery.OnDeadline(time, 100 * definition.Timeout,'],
];

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const copy = mkdtempSync(join(tmpdir(), 'mutants-'));
const tests = join(copy, 'tests', 'Pipeline.LambdaEmulator.Tests');

function dotnet(...args) {
  const run = spawnSync('dotnet', args, { cwd: tests, encoding: 'utf8', env: { ...process.env, MSBUILDDISABLENODEREUSE: '1' } });
  return { ok: run.status === 0, output: `${run.stdout}${run.stderr}` };
}

function build(...options) {
  const built = dotnet('build', '--nologo', '-v', 'quiet', ...options);
  if (!built.ok) {
    throw new Error(`The copy does not build:\n${built.output}`);
  }
}

function conformance() {
  return dotnet('test', '--no-build', '--', '--filter-namespace', 'Pipeline.LambdaEmulator.Tests.Conformance', '--filter-not-class', '*.ConformanceTableTests', '--stop-on-fail', 'on');
}

try {
  const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' }).split('\0').filter(Boolean);
  for (const file of files) {
    mkdirSync(dirname(join(copy, file)), { recursive: true });
    cpSync(join(root, file), join(copy, file));
  }

  for (const [what, file, text] of mutants) {
    if (readFileSync(join(copy, file), 'utf8').split(text).length !== 2) {
      console.error(`"${what}": this text is not exactly once in ${file}: ${text}`);
      process.exitCode = 2;
    }
  }

  if (process.exitCode !== 2) {
    build();
    const unbroken = conformance();
    if (!unbroken.ok) {
      throw new Error(`The cases fail without any mutant:\n${unbroken.output}`);
    }

    let survived = 0;
    const chosen = mutants.filter(([what]) => what.includes(process.argv[2] ?? ''));
    for (const [what, file, text, replacement] of chosen) {
      const path = join(copy, file);
      const original = readFileSync(path, 'utf8');
      writeFileSync(path, original.replace(text, () => replacement));
      build('--no-restore');
      const { ok, output } = conformance();
      writeFileSync(path, original);
      survived += ok ? 1 : 0;
      const noticedBy = /failed (?:Pipeline\.LambdaEmulator\.Tests\.Conformance\.)?([\w.]+)/.exec(output)?.[1] ?? '';
      console.log(`${ok ? 'SURVIVED' : 'killed  '} | ${what.padEnd(66)} | ${ok ? '' : noticedBy}`);
    }

    console.log(`${chosen.length - survived} of ${chosen.length} broken rules were noticed`);
    process.exitCode = survived > 0 ? 1 : 0;
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
