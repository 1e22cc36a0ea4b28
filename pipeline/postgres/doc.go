// Package postgres is the Postgres transport: it captures row changes into a change log, reads the log without losing,
// reordering or waiting, and keeps what must outlast the process. It uses no logical replication and no superuser.
//
//	capture    triggers write rows of the change log in the user's transaction    capture.go, migrations/
//	lease      of several processes with one name, one leads                      lease.go
//	reader     window by window: what one snapshot saw and the last did not       reader.go, session.go, windows.go
//	identity   a copy of the database is told from the original                   identity.go, pin.go
//	checkpoint the reading position and what is read but not settled              checkpoint.go, cursor.go, persist.go
//	wake       commits notify only while a reader sleeps, and few of them do       wake.go
//	retry, dead letters, retention                                                retry.go, deadletter.go, retention.go
//	publisher, subscriber: the log as a Watermill topic for other programs        publisher.go, subscriber.go
//
// Start reading at reader.go.
package postgres
