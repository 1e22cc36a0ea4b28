package handlers

import (
	"context"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
)

func TestRequestErrorClassOfWhatATestCannotCause(t *testing.T) {
	for class, cause := range map[string]error{
		"dns":     &net.DNSError{Err: "no such host", Name: "nowhere.invalid", IsNotFound: true},
		"timeout": os.ErrDeadlineExceeded,
		"network": net.UnknownNetworkError("carrier pigeon"),
	} {
		err := requestError(context.Background(), &net.OpError{Op: "dial", Net: "tcp", Err: cause})
		require.Equal(t, class, event.Class(err))
		require.False(t, event.IsPermanent(err))
	}
}
