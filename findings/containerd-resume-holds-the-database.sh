#!/usr/bin/env bash
# When a client goes on with an unfinished blob, containerd 2.4.2 hashes the bytes of the blob
# within a write transaction of its metadata database. Until the hash is done, every other
# write to the database waits, in all namespaces: leases, images, containers and snapshots
# cannot be made or changed. A pull that resumes within a layer of 100 GiB blocks these writes
# for minutes.
#
# The script makes an unfinished blob of 512 MiB and opens it again. As soon as the content
# store is asked for the blob, it makes a lease in another namespace. The lease waits until the
# blob is open. If no blob is being opened, the same lease takes a small part of that time.
#
# The script needs Go and its module proxy, and 1 GiB in the temporary directory. It exits
# with 0 as long as containerd behaves like this.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'EOF'
module finding

go 1.25.0

require (
	github.com/containerd/containerd/v2 v2.4.2
	go.etcd.io/bbolt v1.4.3
)
EOF
cat >main.go <<'EOF'
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	bolt "go.etcd.io/bbolt"
)

// A store reports when it is asked for a writer.
type store struct {
	content.Store
	asked chan struct{}
}

func (s *store) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	return s.Store.Writer(ctx, opts...)
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func main() {
	dir := must(os.MkdirTemp(".", "root"))
	s := &store{must(local.NewStore(filepath.Join(dir, "content"))), make(chan struct{}, 1)}
	bdb := must(bolt.Open(filepath.Join(dir, "meta.db"), 0o600, nil))
	db := metadata.NewDB(bdb, s, nil)
	ctx := namespaces.WithNamespace(context.Background(), "one")
	other := namespaces.WithNamespace(context.Background(), "two")
	if err := db.Init(ctx); err != nil {
		log.Fatal(err)
	}
	leaseManager := metadata.NewLeaseManager(db)

	w := must(db.ContentStore().Writer(ctx, content.WithRef("layer")))
	part := make([]byte, 1<<20)
	for range 512 {
		must(w.Write(part))
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	<-s.asked

	began := time.Now()
	must(leaseManager.Create(other, leases.WithID("before")))
	alone := time.Since(began)

	took := make(chan time.Duration)
	began = time.Now()
	go func() {
		w := must(db.ContentStore().Writer(ctx, content.WithRef("layer")))
		d := time.Since(began)
		w.Close()
		took <- d
	}()
	<-s.asked
	must(leaseManager.Create(other, leases.WithID("while")))
	waited := time.Since(began)
	opening := <-took
	fmt.Println("the lease waits until the blob is open:", waited > opening*9/10)
	fmt.Println("without an open blob it takes less than a tenth of that:", alone < opening/10)
	fmt.Fprintln(os.Stderr, "opening a blob of 512 MiB:", opening, "a lease meanwhile:", waited, "a lease alone:", alone)
}
EOF
go mod tidy >/dev/null 2>&1
go run . >got 2>log || { cat log; exit 1; }
cat >want <<'EOF'
the lease waits until the blob is open: true
without an open blob it takes less than a tenth of that: true
EOF
diff -u want got
cat got
grep opening log
