package window

import "errors"

type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }

// Fatal marks an error of Fetch as one that ends the subscription: another fetch cannot mend it.
func Fatal(err error) error {
	if err == nil {
		return nil
	}
	return &fatalError{err}
}

// IsFatal reports whether err was marked with [Fatal].
func IsFatal(err error) bool {
	var f *fatalError
	return errors.As(err, &f)
}
