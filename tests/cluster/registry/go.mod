// An OCI registry in memory, for tests of policies that come from registries.
module muster.dev/tests/registry

go 1.26.0

require github.com/google/go-containerregistry v0.22.1
