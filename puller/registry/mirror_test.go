package registry_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// manifestText is the manifest of these tests: an index without entries.
const manifestText = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`

// serveAll answers manifests and blobs.
func serveAll(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "/manifests/") {
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		text(manifestText)(w, r)
		return
	}
	text(hello)(w, r)
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// mirrored returns a client that asks m1 and m2 before reg.example.
func mirrored(m1, m2, reg http.HandlerFunc) (*world, *registry.Client) {
	return mirroredWith(nil, m1, m2, reg)
}

func mirroredWith(ring credentials.Keyring, m1, m2, reg http.HandlerFunc) (*world, *registry.Client) {
	w := newWorld(map[string]http.HandlerFunc{"https://m1.example": m1, "https://m2.example": m2, "https://reg.example": reg})
	return w, mustClient(registry.Config{MirrorKeyring: ring, WrapTransport: instead(w), Registries: map[string]registry.Hosts{"reg.example": {Mirrors: []registry.Host{
		{URL: "https://m1.example", Can: registry.CanPull},
		{URL: "https://m2.example/v2/proxy", OverridePath: true, Header: http.Header{"X-Mirror": {"m2"}}},
	}}}})
}

const (
	m1Blob = "GET https://m1.example" + helloPath + "?ns=reg.example"
	m2Blob = "GET https://m2.example/v2/proxy/app/blobs/sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824?ns=reg.example"
	regURL = "GET https://reg.example"
)

func TestMirrorsAreAskedInOrderBeforeTheRegistry(t *testing.T) {
	ref := reference.MustParse("reg.example/app:v1")
	w, c := mirrored(serveAll, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "m2", r.Header.Get("X-Mirror"))
		serveAll(w, r)
	}, serveAll)
	_, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
	require.NoError(t, err)
	assert.Equal(t, []string{m1Blob}, w.asked())
	_, err = c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
	require.NoError(t, err)
	assert.Equal(t, []string{"GET https://m2.example/v2/proxy/app/manifests/v1?ns=reg.example"}, w.asked(), "the first mirror may not resolve tags")
}

// After any failure of the mirrors the registry is asked at once. If the failure may
// pass, the mirror is left out for a time.
func TestTheRegistryIsAskedAtOnceAfterMirrorsFail(t *testing.T) {
	ref := reference.MustParse("reg.example/app:v1")
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		aside  time.Duration
	}{
		"not there":     {status(404), 0},
		"unauthorized":  {status(401, "WWW-Authenticate", "Basic realm=r"), 0},
		"denied":        {status(403), 0},
		"rate limited":  {status(429, "Retry-After", "50"), 50 * time.Second},
		"for an hour":   {status(429, "Retry-After", "3600"), 5 * time.Minute},
		"for 5 seconds": {status(503, "Retry-After", "5"), 5 * time.Second},
		"timed out":     {status(408), 30 * time.Second},
		"broken":        {status(500), 30 * time.Second},
		"unreachable":   {nil, 30 * time.Second},
		"strange":       {status(204), 0},
		"has a policy":  {status(412), 0}, // the policy may be about one image only
		"redirects":     {redirectTo("ftp://x"), 0},
		"packs":         {status(200, "Content-Encoding", "gzip"), 0},
		"asks for more": {status(401, "WWW-Authenticate", `Bearer realm="http://m1.example/t"`), 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, c := mirrored(tt.answer, tt.answer, serveAll)
				began := time.Now()
				data, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
				require.NoError(t, err)
				assert.Equal(t, hello, string(data))
				assert.Zero(t, time.Since(began), "the client does not wait")
				assert.Equal(t, []string{m1Blob, m2Blob, regURL + helloPath}, w.asked())
				time.Sleep(tt.aside - time.Nanosecond)
				_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
				require.NoError(t, err)
				if tt.aside > 0 {
					assert.Equal(t, []string{regURL + helloPath}, w.asked())
				} else {
					assert.Equal(t, []string{m1Blob, m2Blob, regURL + helloPath}, w.asked())
				}
				time.Sleep(time.Nanosecond)
				_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
				require.NoError(t, err)
				assert.Equal(t, []string{m1Blob, m2Blob, regURL + helloPath}, w.asked())
			})
		})
	}
}

// If a mirror answers with a web page or half of a document, the next host is asked.
func TestAMirrorThatIsNotARegistryIsPassedOver(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"a page":             says("<html>sign in</html>", "Content-Type", "text/html"),
		"a page called JSON": says("<html>sign in</html>", "Content-Type", indexType),
		"half a document":    says(manifestText[:len(manifestText)/2], "Content-Type", indexType),
		"a list":             says("["+manifestText+"]", "Content-Type", indexType),
		"nothing":            says("", "Content-Type", indexType),
	} {
		t.Run(name, func(t *testing.T) {
			w, c := mirrored(answer, answer, serveAll)
			doc, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, "")
			require.NoError(t, err)
			assert.Equal(t, manifestText, string(doc.Body))
			assert.Equal(t, []string{"GET https://m2.example/v2/proxy/app/manifests/v1?ns=reg.example", "GET https://reg.example/v2/app/manifests/v1"}, w.asked())
		})
	}
}

// If the mirrors and the registry fail, the reason of the error is that of the registry's
// answer. The answers of the mirrors are in the text.
func TestTheRegistrysAnswerGivesTheReason(t *testing.T) {
	ref := reference.MustParse("reg.example/app:v1")
	_, c := mirrored(status(500), status(401), status(404))
	_, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
	require.ErrorIs(t, err, content.ErrNotFound)
	assert.NotErrorIs(t, err, content.ErrUnauthorized)
	var e *content.Error
	require.ErrorAs(t, err, &e)
	assert.Equal(t, "reg.example", e.Host)
	assert.Contains(t, err.Error(), "registry unavailable: GET https://m1.example/")
	assert.Contains(t, err.Error(), "unauthorized: GET https://m2.example/")

	hosts := map[string]registry.Hosts{"reg.example": {Mirrors: []registry.Host{{URL: "https://m1.example", Header: http.Header{"Authorization": {"Bearer m1-secret"}}}}}}
	c = newClient(t, registry.Config{Registries: hosts, WrapTransport: instead(newWorld(map[string]http.HandlerFunc{"https://reg.example": status(404), "https://m1.example": func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(403)
		text(`{"errors":[{"code":"DENIED","message":"not with `+r.Header.Get("Authorization")+`"}]}`)(w, r)
	}}))})
	_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
	assert.Contains(t, err.Error(), "not with [redacted]")
}

// A ring is a keyring with the credentials of each name.
type ring map[string][]credentials.Credential

func (r ring) Lookup(_ context.Context, ref reference.Reference) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) {
		for _, c := range r[ref.Name()] {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func TestAMirrorGetsOnlyItsOwnCredentials(t *testing.T) {
	ref := reference.MustParse("reg.example/app:v1")
	wrong := credentials.Credential{Username: "wrong", Password: credentials.Conceal("wrong-pass")}
	own := credentials.Credential{Username: "m2", Password: credentials.Conceal("m2-password")}
	basic := func(w http.ResponseWriter, r *http.Request) {
		user, _, ok := r.BasicAuth()
		if user != "m2" {
			challenge("Basic realm=r")(w, r)
			return
		}
		assert.True(t, ok)
		serveAll(w, r)
	}
	w, c := mirroredWith(ring{"m2.example/proxy/app": {wrong, own}, "m1.example/app": {wrong}}, basic, basic, serveAll)
	_, err := read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
	require.NoError(t, err)
	assert.Equal(t, []string{m1Blob, m1Blob + " Basic", m2Blob, m2Blob + " Basic", m2Blob, m2Blob + " Basic"}, w.asked(),
		"each mirror gets its own credentials, one after another, and never those of the registry")
}

// A mirror that sent wrong bytes for a digest is not asked for that digest for some time. It
// is still asked for other digests.
func TestAMirrorWithWrongBytesIsLeftOutForTheDigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ref := reference.MustParse("reg.example/app:v1")
		w, c := mirrored(text("wrong"), status(404), serveAll)
		body, err := c.Blob(t.Context(), content.Repo{Ref: ref, Cred: robot}, helloBlob(), 0, -1)
		require.NoError(t, err)
		buf := make([]byte, 100)
		n, err := body.Read(buf)
		require.NoError(t, err)
		assert.Equal(t, "wrong", string(buf[:n]))
		assert.True(t, body.Reject())
		require.NoError(t, body.Close())
		w.asked()
		_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
		require.NoError(t, err)
		assert.Equal(t, []string{m2Blob, regURL + helloPath}, w.asked())
		other := helloBlob()
		other.Digest = "sha256:" + other.Digest[len("sha256:")+1:] + "0"
		_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, other)
		require.NoError(t, err)
		assert.Len(t, w.asked(), 1, "the mirror is asked for another digest")
		time.Sleep(10 * time.Minute)
		_, err = read(t.Context(), c, content.Repo{Ref: ref, Cred: robot}, helloBlob())
		require.NoError(t, err)
		assert.Equal(t, []string{m1Blob}, w.asked())
	})
}

// If a mirror sends a manifest with a wrong digest, the next host is asked.
func TestTheNextHostIsAskedAfterAWrongManifest(t *testing.T) {
	ref := reference.MustParse("reg.example/app@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
	_, c := mirrored(serveAll, status(404), serveAll)
	_, err := c.Manifest(t.Context(), content.Repo{Ref: ref, Cred: robot}, "")
	require.ErrorIs(t, err, content.ErrDigestMismatch)
	assert.Contains(t, err.Error(), "(before: m1.example: digest mismatch")
}

// If a mirror announces another length than the blob has, its answer is not read, so that
// the bytes that the caller has stay useful. The mirror is not asked for that digest
// again.
func TestAMirrorWithAnotherLengthIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := mirrored(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3000")
			text(strings.Repeat("<", 3000))(w, nil)
		}, status(404), func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(hello))
		})
		for range 2 {
			body, err := c.Blob(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, helloBlob(), 2, -1)
			require.NoError(t, err)
			assert.EqualValues(t, 2, body.Start)
			rest, err := io.ReadAll(body)
			assert.NoError(t, err)
			assert.Equal(t, hello[2:], string(rest))
			assert.NoError(t, body.Close())
		}
		assert.Equal(t, []string{m1Blob, m2Blob, regURL + helloPath, m2Blob, regURL + helloPath}, w.asked())
	})
}

// Some registries answer 416 to a range without an end. The rest of a blob that was cut is
// requested by a range with an end.
func TestTheRestIsRequestedByARangeWithAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blob := []byte(strings.Repeat("0123456789", 1000))
		var ranges []string
		cut := raw(200, int64(len(blob)), io.ErrUnexpectedEOF, string(blob[:3000]))
		rest := func(req *http.Request) (*http.Response, error) {
			if strings.HasSuffix(req.Header.Get("Range"), "-") {
				return code(416)(req)
			}
			return raw(206, int64(len(blob)-3000), io.EOF, string(blob[3000:]), "Content-Range", fmt.Sprintf("bytes 3000-%d/%d", len(blob)-1, len(blob)))(req)
		}
		got, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(asking(&ranges, cut, rest))}), blob)
		require.NoError(t, err)
		assert.Equal(t, blob, got)
		assert.Equal(t, []string{"", "bytes=3000-9999"}, ranges)
	})
}

// If a 206 has the total "*" and its range fits, the blob continues with it. If its range
// does not fit, the whole blob is requested.
func TestARangeOfUnknownTotalIsUsedIfItFits(t *testing.T) {
	for contentRange, want := range map[string][]string{
		"bytes 300000-1048575/*": {"", "bytes=300000-1048575"},
		"bytes 300000-1048576/*": {"", "bytes=300000-1048575", ""},
		"bytes 300001-1048575/*": {"", "bytes=300000-1048575", ""},
		"bytes 300000-*/*":       {"", "bytes=300000-1048575", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			blob := []byte(strings.Repeat("0123456789abcdef", 65536))
			var ranges []string
			cut := raw(200, int64(len(blob)), io.ErrUnexpectedEOF, string(blob[:300000]))
			rest := raw(206, int64(len(blob)-300000), io.EOF, string(blob[300000:]), "Content-Range", contentRange)
			got, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(asking(&ranges, cut, rest, raw(200, int64(len(blob)), io.EOF, string(blob))))}), blob)
			require.NoError(t, err)
			assert.Equal(t, blob, got)
			assert.Equal(t, want, ranges, contentRange)
		})
	}
}
