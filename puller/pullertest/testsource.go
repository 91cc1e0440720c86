package pullertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/fakeregistry"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// TestSource tests an implementation of content.Source against registries of this package,
// which listen in the network, or on sockets if network is nil.
//
// TestSource calls newSource several times. Each call of newSource returns a new Source
// that reads the registry at host ("127.0.0.1:5000") over plain http. The caller of
// TestSource closes the Sources.
//
// The error is nil if the Source keeps its contract, and otherwise lists all that is wrong.
func TestSource(network *Network, newSource func(host string) (content.Source, error)) error {
	var wrong []error
	for _, c := range []struct {
		name  string
		auth  AuthMode
		fault fault
		check func(*sourceCheck)
	}{
		{"manifest", AuthNone, fault{}, (*sourceCheck).manifest},
		{"manifest that the caller has", AuthNone, fault{}, (*sourceCheck).have},
		{"blob", AuthNone, fault{}, (*sourceCheck).blob},
		{"what is not there", AuthNone, fault{}, (*sourceCheck).absent},
		{"credentials, Basic", AuthBasic, fault{}, (*sourceCheck).credentials},
		{"credentials, Bearer", AuthBearer, fault{}, (*sourceCheck).credentials},
		{"expired token", AuthBearer, fault{}, (*sourceCheck).expired},
		{"cancelled", AuthNone, fault{}, (*sourceCheck).cancelled},
		{"cut connections", AuthNone, fault{after: 64 << 10}, (*sourceCheck).cuts},
		{"stall", AuthNone, fault{after: 1000, stall: true}, (*sourceCheck).stalls},
		{"many at once", AuthBearer, fault{}, (*sourceCheck).manyAtOnce},
	} {
		errs, err := checkSource(network, c.auth, c.fault, newSource, c.check)
		if err != nil {
			return err
		}
		for _, err := range errs {
			wrong = append(wrong, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	return errors.Join(wrong...)
}

const wrongPassword = "wrong-8d1f03"

// A sourceCheck is the test of a Source that reads one registry.
type sourceCheck struct {
	source content.Source
	reg    *Registry
	image  PutResult
	ref    reference.Reference
	cred   credentials.Credential

	findings
}

func checkSource(network *Network, auth AuthMode, fault fault, newSource func(string) (content.Source, error), check func(*sourceCheck)) ([]error, error) {
	reg, err := Start(Config{Network: network, Auth: auth, Users: []User{{Name: "robot", Password: "right"}}})
	if err != nil {
		return nil, err
	}
	defer reg.Close()
	image, err := reg.PutImage("team/app:v1", ImageSpec{
		Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}},
		Layers:    []int64{200_000},
	})
	if err != nil {
		return nil, err
	}
	ref, err := reference.Parse(reg.Host() + "/team/app:v1")
	if err != nil {
		return nil, err
	}
	reg.fault = fault
	source, err := newSource(reg.Host())
	if err != nil {
		return nil, fmt.Errorf("new source: %w", err)
	}
	c := &sourceCheck{source: source, reg: reg, image: image, ref: ref}
	if auth != AuthNone {
		c.cred = credentials.Credential{Username: "robot", Password: credentials.Conceal("right")}
	}
	check(c)
	return c.wrong, nil
}

// pinned is the image's name with a digest in place of the tag.
func (c *sourceCheck) pinned(dgst digest.Digest) reference.Reference {
	ref, err := c.ref.WithoutTag().WithDigest(dgst)
	c.must(err == nil, "%v", err)
	return ref
}

func (c *sourceCheck) manifest() {
	ctx := context.Background()
	for _, ref := range []reference.Reference{c.ref, c.pinned(c.image.Descriptor.Digest)} {
		c.reg.ResetCounts()
		doc, err := c.source.Manifest(ctx, content.Repo{Ref: ref, Cred: c.cred}, "")
		want := c.image.Descriptor
		c.must(err == nil && doc.Desc.Digest == want.Digest && doc.Desc.Size == want.Size && doc.Desc.MediaType == want.MediaType && fakeregistry.SHA256(doc.Body) == want.Digest,
			"Manifest of %v: %+v, %d bytes, %v, want %+v", ref, doc.Desc, len(doc.Body), err, want)
		counts := c.reg.Counts()
		c.must(counts.ManifestGet == 1 && counts.ManifestHead == 0, "Manifest without a digest to compare: %d GETs and %d HEADs, want one GET", counts.ManifestGet, counts.ManifestHead)
	}
}

func (c *sourceCheck) have() {
	ctx := context.Background()
	doc, err := c.source.Manifest(ctx, content.Repo{Ref: c.ref, Cred: c.cred}, c.image.Descriptor.Digest)
	c.must(err == nil && doc.Body == nil && doc.Desc.Digest == c.image.Descriptor.Digest, "Manifest with the digest that the caller has: %+v, %d bytes, %v, want no body", doc.Desc, len(doc.Body), err)
	counts := c.reg.Counts()
	c.must(counts.ManifestGet == 0 && counts.ManifestHead == 1, "Manifest with the digest that the caller has: %d GETs and %d HEADs, want one HEAD", counts.ManifestGet, counts.ManifestHead)
	doc, err = c.source.Manifest(ctx, content.Repo{Ref: c.ref, Cred: c.cred}, c.image.Manifests[0].Digest)
	c.must(err == nil && fakeregistry.SHA256(doc.Body) == c.image.Descriptor.Digest, "Manifest with another digest than the caller has: %+v, %d bytes, %v, want the body", doc.Desc, len(doc.Body), err)
}

func (c *sourceCheck) blob() {
	layer := c.image.Blobs[1]
	stored, ok := c.reg.content.blob("team/app", string(layer.Digest))
	c.must(ok, "the registry has lost a layer")
	size := layer.Size
	for _, part := range []struct{ off, n int64 }{{0, -1}, {0, size}, {0, 1}, {0, 1000}, {1, -1}, {size - 1, -1}, {size / 2, 1000}, {size - 1000, 1000}} {
		body, err := c.source.Blob(context.Background(), content.Repo{Ref: c.ref, Cred: c.cred}, layer, part.off, part.n)
		if !c.must(err == nil, "Blob, %d bytes from %d: %v", part.n, part.off, err) {
			continue
		}
		data, err := io.ReadAll(body)
		_ = body.Close()
		end := size
		if part.n >= 0 {
			end = part.off + part.n
		}
		if body.Start == 0 && part.off > 0 {
			end = size // the range was ignored
		}
		c.must((body.Start == part.off || body.Start == 0) && err == nil && bytes.Equal(data, stored.Data[body.Start:end]),
			"Blob, %d bytes from %d: %d bytes from %d, %v, want what the registry has", part.n, part.off, len(data), body.Start, err)
	}
	longer := layer
	longer.Size++
	body, err := c.source.Blob(context.Background(), content.Repo{Ref: c.ref, Cred: c.cred}, longer, 0, -1)
	if err == nil {
		_, err = io.ReadAll(body)
		_ = body.Close()
	}
	c.must(err != nil, "the body of a blob that is shorter than its descriptor ends without an error")
}

func (c *sourceCheck) absent() {
	ctx := context.Background()
	none, _ := testBlob(1, 10)
	other, err := c.ref.WithTag("v2")
	c.must(err == nil, "%v", err)
	for _, ref := range []reference.Reference{other, c.pinned(none.Digest)} {
		for _, have := range []digest.Digest{"", none.Digest} {
			_, err := c.source.Manifest(ctx, content.Repo{Ref: ref, Cred: c.cred}, have)
			c.must(errors.Is(err, fs.ErrNotExist), "Manifest of %v: %v, want fs.ErrNotExist", ref, err)
		}
	}
	c.must(errors.Is(c.read(c.cred, none), fs.ErrNotExist), "Blob that is not there: want fs.ErrNotExist")
}

// read reads a blob to its end and compares it with its digest.
func (c *sourceCheck) read(cred credentials.Credential, desc ocispec.Descriptor) error {
	body, err := c.source.Blob(context.Background(), content.Repo{Ref: c.ref, Cred: cred}, desc, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	if err == nil && (body.Start != 0 || fakeregistry.SHA256(data) != desc.Digest) {
		return fmt.Errorf("%d bytes from %d are not the blob", len(data), body.Start)
	}
	return err
}

func (c *sourceCheck) credentials() {
	ctx := context.Background()
	for _, cred := range []credentials.Credential{{}, {Username: "robot", Password: credentials.Conceal(wrongPassword)}} {
		_, err := c.source.Manifest(ctx, content.Repo{Ref: c.ref, Cred: cred}, "")
		c.must(errors.Is(err, fs.ErrPermission), "Manifest with a wrong credential: %v, want fs.ErrPermission", err)
		c.must(err == nil || !strings.Contains(err.Error(), wrongPassword), "the text of the error has the password in it")
	}
	_, err := c.source.Manifest(ctx, content.Repo{Ref: c.ref, Cred: c.cred}, "")
	c.must(err == nil, "Manifest with the right credential: %v", err)
	err = c.read(c.cred, c.image.Blobs[1])
	c.must(err == nil, "Blob with the right credential: %v", err)
	for _, cred := range []credentials.Credential{{}, {Username: "robot", Password: credentials.Conceal(wrongPassword)}} {
		err := c.read(cred, c.image.Blobs[1])
		c.must(errors.Is(err, fs.ErrPermission), "Blob with a wrong credential after the right one: %v, want fs.ErrPermission", err)
	}
}

func (c *sourceCheck) expired() {
	for range 2 {
		_, err := c.source.Manifest(context.Background(), content.Repo{Ref: c.ref, Cred: c.cred}, "")
		c.must(err == nil, "Manifest: %v", err)
		c.reg.ExpireTokens()
		err = c.read(c.cred, c.image.Blobs[1])
		c.must(err == nil, "Blob after the token has expired: %v", err)
		c.reg.ExpireTokens()
	}
}

func (c *sourceCheck) cancelled() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.source.Manifest(ctx, content.Repo{Ref: c.ref, Cred: c.cred}, "")
	c.must(errors.Is(err, context.Canceled), "Manifest with a context that has ended: %v, want context.Canceled", err)
}

func (c *sourceCheck) manyAtOnce() {
	var reads sync.WaitGroup
	for range 8 {
		for _, desc := range c.image.Blobs {
			reads.Go(func() {
				err := c.read(c.cred, desc)
				c.must(err == nil, "Blob: %v", err)
			})
		}
	}
	reads.Wait()
}

// cuts tests that a body continues after the connection was cut.
func (c *sourceCheck) cuts() {
	err := c.read(c.cred, c.image.Blobs[1])
	c.must(err == nil, "Blob over connections that are cut: %v, want the whole blob", err)
}

// stalls tests that Read of a body that has stalled returns when the context ends.
func (c *sourceCheck) stalls() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	body, err := c.source.Blob(ctx, content.Repo{Ref: c.ref, Cred: c.cred}, c.image.Blobs[1], 0, -1)
	if !c.must(err == nil, "Blob: %v", err) {
		return
	}
	defer body.Close()
	_, err = io.ReadFull(body, make([]byte, 1000))
	c.must(err == nil, "Read of what came before the stall: %v", err)
	cancel()
	_, err = io.ReadAll(body)
	c.must(errors.Is(err, context.Canceled), "Read of a body that has stopped: %v, want context.Canceled", err)
}
