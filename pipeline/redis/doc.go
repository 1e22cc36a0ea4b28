// Package redis holds what is kept in the operator's Redis.
package redis
