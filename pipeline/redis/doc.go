// Package redis keeps in Redis what the processes of an observer share: the record of finished deliveries ([Dedup]) and the
// results of actions ([Cache]).
package redis
