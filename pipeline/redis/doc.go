// Package redis is the transport over Redis Streams: a [Publisher], a [Driver] that reads a stream as one of many workers, a
// [RetryQueue] and [DeadLetters]. It also keeps what the processes of an observer share on any transport: the record of
// finished deliveries ([Dedup]) and the results of actions ([Results]). Start reading at driver.go; what the keys of the
// transport hold is in retry_scripts.go.
//
// The transport needs Redis 7.0 or later, one server or a master that Sentinels name, see [Check]. What it holds is nowhere
// else: the server must have appendonly yes, appendfsync everysec or always, and maxmemory-policy noeviction, see
// [Warnings]. With everysec a crash of the server loses up to a second of what was published, and delivers again what
// was settled in it; replication to a replica that Sentinels may promote is asynchronous as well.
//
// A stream has one consumer group, since what is settled is deleted from it. Workers of the group share the events in no order
// among each other. An event that a worker held as it died comes to another after AckWait, later than what followed it.
package redis
