package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each reason of package content says what a Puller does next, both for an error about
// the manifest and for an error about a blob.
func TestEachReasonSaysWhatThePullerDoes(t *testing.T) {
	after := func(kind content.Reason, d time.Duration) error { return &content.Error{Reason: kind, RetryAfter: d} }
	for _, tt := range []struct {
		err     error
		is      error // what it must be, apart from the reason
		stopped bool
		retry   time.Duration // -1: no RetryError
	}{
		{after(content.ErrNotFound, 0), fs.ErrNotExist, false, -1},
		{after(content.ErrUnauthorized, 0), fs.ErrPermission, false, -1},
		{after(content.ErrDenied, 0), fs.ErrPermission, false, -1},
		{after(content.ErrUnavailable, 0), puller.ErrRegistryUnavailable, false, -1},
		{after(content.ErrUnavailable, time.Minute), puller.ErrRegistryUnavailable, true, time.Minute},
		{after(content.ErrNetwork, 0), puller.ErrRegistryUnavailable, true, -1},
		{after(content.ErrTimeout, 0), puller.ErrRegistryUnavailable, true, -1},
		{after(content.ErrRateLimited, 0), content.ErrRateLimited, true, 0},
		{after(content.ErrRateLimited, time.Hour), content.ErrRateLimited, true, time.Hour},
		{after(content.ErrStatus, 0), content.ErrStatus, true, -1},
		{after(content.ErrTLS, 0), content.ErrTLS, true, -1},
		{after(content.ErrDigestMismatch, 0), content.ErrDigestMismatch, true, -1},
		{after(content.ErrSizeMismatch, 0), content.ErrSizeMismatch, true, -1},
		{after(content.ErrBadManifest, 0), content.ErrBadManifest, true, -1},
		{after(content.ErrTooLarge, 0), content.ErrTooLarge, true, -1},
		{after(content.ErrRedirect, 0), content.ErrRedirect, true, -1},
		{after(content.ErrConfig, 0), content.ErrConfig, true, -1},
		{&content.Error{Reason: content.ErrStore, Err: content.ErrNoSpace}, content.ErrNoSpace, true, -1},
	} {
		src := newFakeSource()
		ref := src.name(appName, src.image(t, amd64, random(1, 100)))
		rt := newRuntime(t, transfer.Config{Source: src, Store: newMemStore()})
		src.manifest = func(content.Repo) error { return tt.err }
		_, manifestErr := rt.Pull(t.Context(), spec(ref))
		src.manifest = nil
		src.blob = func(ocispec.Descriptor, credentials.Credential, int64, int64) (io.ReadCloser, int64, error) {
			return nil, 0, tt.err
		}
		_, blobErr := rt.Pull(t.Context(), spec(ref))
		for _, err := range []error{manifestErr, blobErr} {
			require.Error(t, err)
			assert.ErrorIs(t, err, content.ReasonOf(tt.err), "%v", tt.err)
			assert.ErrorIs(t, err, tt.is, "%v", tt.err)
			assert.Equal(t, tt.stopped, credentials.Stopped(err), "%v: stopped", tt.err)
			var retry *puller.RetryError
			if assert.Equal(t, tt.retry >= 0, errors.As(err, &retry), "%v: RetryError", tt.err) && retry != nil {
				assert.Equal(t, tt.retry, retry.After)
			}
			for _, reason := range []puller.Reason{puller.ErrRegistryUnavailable, puller.ErrSignatureValidation} {
				assert.Equal(t, tt.is == error(reason), errors.Is(err, reason), "%v is %v", tt.err, reason)
			}
		}
	}
}

// The columns "status" and "next" of the table in the comment of package content are true for
// each reason. The test pulls with two credentials from a Source that fails with the reason.
// After an error with a RetryAfter, the second credential is not tried.
func TestTheTableOfReasonsSaysWhatAPullDoes(t *testing.T) {
	doc, err := os.ReadFile("../content/doc.go")
	require.NoError(t, err)
	code, err := os.ReadFile("../content/errors.go")
	require.NoError(t, err)
	rows := regexp.MustCompile(`(?m)^//\t(Err\w+) .* ([A-Z]\w+) +(yes|no)$`).FindAllStringSubmatch(string(doc), -1)
	require.Len(t, rows, 27)
	for _, row := range rows {
		name, status, next := row[1], row[2], row[3] == "yes"
		texts := regexp.MustCompile(`(?m)^\t` + name + ` +Reason = (?:Reason\(index\.(\w+)\)|"([^"]+)")$`).FindStringSubmatch(string(code))
		require.NotNil(t, texts, name)
		reason := content.Reason(texts[2])
		if texts[1] != "" {
			reason = map[string]content.Reason{
				"ErrDigestMismatch": content.ErrDigestMismatch, "ErrSizeMismatch": content.ErrSizeMismatch, "ErrTooLarge": content.ErrTooLarge,
				"ErrTooDeep": content.ErrTooDeep, "ErrBadManifest": content.ErrBadManifest, "ErrBadIndex": content.ErrBadIndex,
				"ErrBadDigest": content.ErrBadDigest, "ErrMediaType": content.ErrMediaType,
			}[texts[1]]
		}
		require.NotEmpty(t, reason, name)
		for _, after := range []time.Duration{0, time.Minute} {
			src, tries := newFakeSource(), 0
			ref := src.name(appName, src.image(t, amd64, random(1, 100)))
			src.manifest = func(content.Repo) error {
				tries++
				return &content.Error{Reason: reason, RetryAfter: after}
			}
			p, err := puller.New(puller.Config{Runtime: newRuntime(t, transfer.Config{Source: src, Store: newMemStore()})})
			require.NoError(t, err)
			ring := credentials.Static{{Username: "a", Password: credentials.Conceal("pw")}, {Username: "b", Password: credentials.Conceal("pw")}}
			_, err = p.Pull(t.Context(), puller.Request{Image: ref.String(), Keyring: ring})
			var failed *puller.Error
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, puller.Reason(status), failed.Reason, name)
			assert.ErrorIs(t, err, reason, name)
			assert.Equal(t, next && after == 0, tries == 2, "%s, RetryAfter %v: %d tries", name, after, tries)
		}
	}
}

func TestAPasswordInAManifestIsNotInTheError(t *testing.T) {
	const password = "s3cret-password"
	src := newFakeSource()
	broken := src.image(t, amd64, random(1, 100))
	broken = src.putDoc(t, ocispec.MediaTypeImageManifest, map[string]any{
		"schemaVersion": 2, "mediaType": broken.MediaType,
		"config": map[string]any{"mediaType": ocispec.MediaTypeImageConfig, "digest": password, "size": 1}, "layers": []any{},
	})
	s := spec(src.name(appName, broken))
	s.Credential = credentials.Credential{Username: "robot", Password: credentials.Conceal(password)}
	rt := newRuntime(t, transfer.Config{Source: src, Store: newMemStore()})
	_, pulled := rt.Pull(t.Context(), s)
	_, planned := rt.Plan(t.Context(), s)
	for _, err := range []error{pulled, planned} {
		require.ErrorIs(t, err, content.ErrBadDigest)
		assert.NotContains(t, err.Error(), password)
		assert.True(t, credentials.Stopped(err))
	}
}

func TestTheErrorOfACancelledCallIsTheContexts(t *testing.T) {
	src := newFakeSource()
	ref := src.name(appName, src.image(t, amd64, random(1, 100)))
	rt := newRuntime(t, transfer.Config{Source: src, Store: newMemStore()})
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the node shuts down")
	cancel(cause)
	_, err := rt.Pull(ctx, spec(ref))
	assert.ErrorIs(t, err, context.Canceled)
	assert.True(t, credentials.Stopped(err))
	_, err = rt.Status(ctx, spec(ref))
	assert.ErrorIs(t, err, context.Canceled)
	_, err = rt.Plan(ctx, spec(ref))
	assert.ErrorIs(t, err, context.Canceled)
}

// failingStore fails at one method.
type failingStore struct {
	*memStore
	lookup, has, open, ingest, tag error
}

func (s failingStore) Lookup(ctx context.Context, ref reference.Reference) (ocispec.Descriptor, error) {
	if s.lookup != nil {
		return ocispec.Descriptor{}, s.lookup
	}
	return s.memStore.Lookup(ctx, ref)
}

func (s failingStore) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if s.has != nil {
		return false, s.has
	}
	return s.memStore.Has(ctx, d)
}

func (s failingStore) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if s.open != nil {
		return nil, s.open
	}
	return s.memStore.Open(ctx, d)
}

func (s failingStore) Ingest(ctx context.Context, d ocispec.Descriptor) (content.Ingest, error) {
	if s.ingest != nil {
		return nil, s.ingest
	}
	return s.memStore.Ingest(ctx, d)
}

func (s failingStore) Tag(ctx context.Context, ref reference.Reference, d ocispec.Descriptor) error {
	if s.tag != nil {
		return s.tag
	}
	return s.memStore.Tag(ctx, ref, d)
}

func TestAFailureOfTheStoreStopsTheLoop(t *testing.T) {
	src := newFakeSource()
	ref := src.name(appName, src.image(t, amd64, random(1, 100)))
	for name, s := range map[string]failingStore{
		"Lookup": {lookup: syscall.EIO},
		"Has":    {has: syscall.EIO},
		"Ingest": {ingest: syscall.EACCES},
		"Open":   {open: syscall.EIO},
		"Tag":    {tag: syscall.EIO},
	} {
		s.memStore = newMemStore()
		if s.open != nil { // only what is stored is opened
			_, err := newRuntime(t, transfer.Config{Source: src, Store: s.memStore}).Pull(t.Context(), spec(ref))
			require.NoError(t, err)
		}
		_, err := newRuntime(t, transfer.Config{Source: src, Store: s}).Pull(t.Context(), spec(ref))
		assert.ErrorIs(t, err, content.ErrStore, name)
		assert.True(t, credentials.Stopped(err), name)
		s.clean(t)
	}
}

// A registry that repeats what it was sent, in a manifest, does not bring it into an error: not
// a token, and not a part of a password that is longer than what errors quote.
func TestATokenOrLongPasswordInAManifestIsNotInTheError(t *testing.T) {
	password := strings.Repeat("s3cret-password-", 20)
	var reg *httptest.Server
	repeated := ""
	reg = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			fmt.Fprint(w, `{"token": "t0ken-of-the-registry"}`)
		case r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+reg.URL+`/token"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			fmt.Fprintf(w, `{"schemaVersion": 2, "config": {"mediaType": %q, "digest": %q, "size": 1}, "layers": []}`, ocispec.MediaTypeImageConfig, repeated)
		}
	}))
	defer reg.Close()
	s := spec(reference.MustParse(strings.TrimPrefix(reg.URL, "http://") + "/team/app:v1"))
	s.Credential = credentials.Credential{Username: "robot", Password: credentials.Conceal(password)}
	rt := newRuntime(t, transfer.Config{Store: newMemStore()})
	for _, repeated = range []string{"t0ken-of-the-registry", password} {
		_, err := rt.Pull(t.Context(), s)
		require.ErrorIs(t, err, content.ErrBadDigest)
		assert.Contains(t, err.Error(), "[redacted]")
		assert.NotContains(t, err.Error(), repeated[:12])
	}
}
