// Package testenv starts the servers that tests need, from the binaries of this machine: private ports, data of their own
// under the temporary directory, and an end with the test binary, however that ends.
//
// Start reading at [Postgres]. A package that uses testenv says
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
//
// A server that cannot be started fails the test, it never skips it: `make test` installs what is missing.
package testenv
