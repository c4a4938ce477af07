-- Count a batch once, and take the batches to commit now.
--
-- KEYS[1] state   hash: done, nodes, tokens, bytes (of the blobs in ready), since (ms of the oldest in ready)
-- KEYS[2] done    bitmap: batch numbers that were counted
-- KEYS[3] ready   list: batch numbers whose blobs wait for a commit
-- ARGV[1] number of the batch
-- ARGV[2] nodes, ARGV[3] tokens, ARGV[4] bytes of its blob; 0 bytes: it ended without a blob
-- ARGV[5] batches that make a segment, ARGV[6] bytes that do, ARGV[7] milliseconds that do
-- ARGV[8] seconds until all of this is forgotten
--
-- Returns the batch numbers of a segment, or an empty list. A number that is returned is gone from `ready`; should
-- the caller die before it sends the commit, the reconciler finds those batches in the ledger.

local state, done, ready = KEYS[1], KEYS[2], KEYS[3]
local number, bytes = tonumber(ARGV[1]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if redis.call('SETBIT', done, number, 1) == 0 then
  redis.call('HINCRBY', state, 'done', 1)
  redis.call('HINCRBY', state, 'nodes', ARGV[2])
  redis.call('HINCRBY', state, 'tokens', ARGV[3])
end
if bytes > 0 then
  if redis.call('RPUSH', ready, number) == 1 then
    redis.call('HSET', state, 'since', now)
  end
  redis.call('HINCRBY', state, 'bytes', bytes)
end

local waiting = redis.call('LLEN', ready)
local gathered = redis.call('HMGET', state, 'bytes', 'since')
local full = waiting >= tonumber(ARGV[5]) or tonumber(gathered[1] or 0) >= tonumber(ARGV[6])
local late = now - tonumber(gathered[2] or now) >= tonumber(ARGV[7])

local segment = {}
if waiting > 0 and (full or late) then
  segment = redis.call('LRANGE', ready, 0, -1)
  redis.call('DEL', ready)
  redis.call('HSET', state, 'bytes', 0)
end
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[8])
end
return segment
