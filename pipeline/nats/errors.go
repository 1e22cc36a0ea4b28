package nats

import (
	"errors"
	"fmt"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	// ErrFull says that the stream holds max_msgs or max_bytes, or that the server's disk is full: what was published is
	// not stored, and may be once events were processed.
	ErrFull = errors.New("the stream is full")
	// ErrConflict says that what is on the server is not what the configuration says, and cannot be made so.
	ErrConflict = errors.New("conflict")
	// ErrVersion says that the server is too old.
	ErrVersion = errors.New("the NATS server is too old")
	// ErrDenied says that the user lacks a right.
	ErrDenied = errors.New("the NATS server refuses it")
)

// Codes of the JetStream API that a caller can do something about, where package jetstream does not name them.
const (
	codeNoPeers        jetstream.ErrorCode = 10005
	codeNoResources    jetstream.ErrorCode = 10023
	codeNoMemory       jetstream.ErrorCode = 10028
	codeMaxConsumers   jetstream.ErrorCode = 10026
	codeMaxStreams     jetstream.ErrorCode = 10027
	codeNoStorage      jetstream.ErrorCode = 10047
	codeStreamInvalid  jetstream.ErrorCode = 10052
	codeSubjectOverlap jetstream.ErrorCode = 10065
	codeNotClustered   jetstream.ErrorCode = 10074
	codeStoreFailed    jetstream.ErrorCode = 10077
	codeNotUnique      jetstream.ErrorCode = 10100
)

// advice says what to do, by code.
var advice = map[jetstream.ErrorCode]string{
	jetstream.JSErrCodeJetStreamNotEnabled:           "start nats-server with JetStream: -js, or a jetstream block in its configuration",
	jetstream.JSErrCodeJetStreamNotEnabledForAccount: "enable JetStream for the account of this user, or use a user of another account",
	codeNoPeers:        "the cluster has too few servers that answer: lower transport.nats.jetstream.replicas, or start more servers",
	codeNotClustered:   "the server is no cluster: set transport.nats.jetstream.replicas = 1",
	codeNoStorage:      "lower transport.nats.jetstream.max_bytes, or raise max_file_store of the server",
	codeNoResources:    "lower transport.nats.jetstream.max_bytes, or raise the limits of the account",
	codeNoMemory:       "raise max_memory_store of the server",
	codeMaxStreams:     "raise the number of streams that the account may have",
	codeMaxConsumers:   "raise the number of consumers that the account may have",
	codeStoreFailed:    "the bridge goes on once events were processed; or raise transport.nats.jetstream.max_msgs or max_bytes",
	codeSubjectOverlap: "another stream takes these subjects: choose another transport.nats.subject_prefix, or remove them from that stream",
	codeNotUnique:      "another consumer reads these events, and a work queue has one reader for each: use its name as transport.nats.consumer_name, delete it, or use retention = \"interest\"",
}

type diagnosedError struct {
	err    error
	advice string
}

func (e *diagnosedError) Error() string { return e.err.Error() + " (" + e.advice + ")" }
func (e *diagnosedError) Unwrap() error { return e.err }

// Diagnose adds to err what to do about it, where that is known.
func Diagnose(err error) error {
	var done *diagnosedError
	if err == nil || errors.As(err, &done) {
		return err
	}
	if text, ok := advice[codeOf(err)]; ok {
		return &diagnosedError{err, text}
	}
	return err
}

// IsFatal reports whether err needs a person: waiting and asking again cannot mend it.
func IsFatal(err error) bool {
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrVersion) || errors.Is(err, ErrDenied) || errors.Is(err, natsgo.ErrAuthorization) {
		return true
	}
	switch codeOf(err) {
	case jetstream.JSErrCodeJetStreamNotEnabledForAccount, codeStreamInvalid, codeSubjectOverlap, codeNotClustered,
		codeNoStorage, codeNoMemory, codeMaxStreams, codeMaxConsumers, codeNotUnique, jetstream.JSErrCodeBadRequest:
		return true
	}
	return false
}

// codeOf returns the code with which the server refused, 0 when it did not.
func codeOf(err error) jetstream.ErrorCode {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.ErrorCode
	}
	var js jetstream.JetStreamError
	if errors.As(err, &js) && js.APIError() != nil {
		return js.APIError().ErrorCode
	}
	return 0
}

// full marks the errors that say that there is no room.
func full(err error) error {
	switch codeOf(err) {
	case codeStoreFailed, codeNoStorage, codeNoResources:
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// wrap names what was tried and diagnoses why it failed.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, Diagnose(err))
}
