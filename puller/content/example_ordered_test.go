package content_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/pullertest"
)

var hello = ocispec.Descriptor{Digest: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", Size: 5}

// A caller that has all bytes of a blob writes only those that the ingest does not have.
func ExampleOrderedIngest() {
	ctx := context.Background()
	var store content.Store = &pullertest.MemStore{InOrder: true}
	write := func(text string, last bool) {
		in, err := store.Ingest(ctx, hello)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer in.Close()
		off := int64(0)
		if ordered, ok := in.(content.OrderedIngest); ok {
			off = ordered.Offset()
		}
		n, err := in.WriteAt([]byte(text)[off:], off)
		fmt.Println(n, "bytes written at", off, err)
		if last {
			fmt.Println(in.Commit(ctx))
		}
	}
	write("he", false) // a first try, which ends here
	write("hello", true)
	// Output:
	// 2 bytes written at 0 <nil>
	// 3 bytes written at 2 <nil>
	// <nil>
}

// A VerifyingIngest refuses bytes that are not those of the blob, so the caller need not hash
// them.
func ExampleVerifyingIngest() {
	ctx := context.Background()
	var store content.Store = &pullertest.MemStore{InOrder: true}
	in, err := store.Ingest(ctx, hello)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer in.Close()
	verifying, ok := in.(content.VerifyingIngest)
	fmt.Println(ok && verifying.Verifies())
	if _, err := in.WriteAt([]byte("HELLO"), 0); err != nil {
		fmt.Println(err)
	}
	fmt.Println(errors.Is(in.Commit(ctx), content.ErrDigestMismatch))
	// Output:
	// true
	// true
}

// A sweeper is a Store whose garbage collection does not run while content is held.
type sweeper struct {
	memory
	held sync.RWMutex
}

func (s *sweeper) Hold(context.Context) (release func(), err error) {
	s.held.RLock()
	return sync.OnceFunc(s.held.RUnlock), nil
}

func (s *sweeper) collect() bool {
	if !s.held.TryLock() {
		return false
	}
	defer s.held.Unlock()
	clear(s.memory) // nothing has a name
	return true
}

func ExampleHolder() {
	store := &sweeper{memory: memory{}}
	var holder content.Holder = store
	release, err := holder.Hold(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	// Here a program would store an image and tag it.
	fmt.Println("collected while content is held:", store.collect())
	release()
	fmt.Println("collected after that:", store.collect())
	// Output:
	// collected while content is held: false
	// collected after that: true
}
