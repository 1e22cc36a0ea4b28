// Package redis keeps in Redis what the processes of an observer share: the record of finished deliveries ([Dedup]).
package redis
