package nats

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAnEntityOfAnyNameIsOneToken(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"Order": "Order", "sales.order": "sales=2Eorder", "a b": "a=20b", "é*>": "=C3=A9=2A=3E", "=": "=3D", "": "="} {
		require.Equal(t, want, token(name))
	}
}

func TestServersWithoutMessageSchedulesAreRefused(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2.12.0", "2.12.0-RC.1", "2.15.2", "3.0.0"} {
		require.NoError(t, checkVersion(version), version)
	}
	for _, version := range []string{"2.11.9", "1.99.0", "2.9.0"} {
		err := checkVersion(version)
		require.ErrorIs(t, err, ErrVersion)
		require.True(t, IsFatal(err))
		require.ErrorContains(t, err, "it is "+version)
	}
	require.False(t, IsFatal(checkVersion("")), "there is no connection")
}
