package registry_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/registry"
	"github.com/pullkit/pullkit/reference"
)

// raw returns an answer with exactly these fields. With a length of -1 the answer announces
// no length.
func raw(status int, length int64, end error, body string, header ...string) func(*http.Request) (*http.Response, error) {
	return func(req *http.Request) (*http.Response, error) {
		resp, err := code(status, header...)(req)
		resp.ContentLength = length
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader([]byte(body)), endReader{end}))
		return resp, err
	}
}

type endReader struct{ err error }

func (r endReader) Read([]byte) (int, error) { return 0, r.err }

// asking returns a transport that records the Range of each request.
func asking(ranges *[]string, steps ...func(*http.Request) (*http.Response, error)) *timed {
	tr := &timed{}
	for _, step := range steps {
		tr.steps = append(tr.steps, func(req *http.Request) (*http.Response, error) {
			*ranges = append(*ranges, req.Header.Get("Range"))
			return step(req)
		})
	}
	return tr
}

func TestABodyContinuesAfterCutsAndBadRanges(t *testing.T) {
	reset := errors.New("connection reset by peer")
	part := func(first, last int) (string, string) {
		return "Content-Range", fmt.Sprintf("bytes %d-%d/5", first, last)
	}
	k, v14 := part(1, 4)
	_, v12 := part(1, 2)
	_, v23 := part(2, 3)
	_, v24 := part(2, 4)
	type steps = []func(*http.Request) (*http.Response, error)
	for _, tt := range []struct {
		name   string
		off, n int64
		steps  steps
		ranges []string
		start  int64
		want   string
		kind   content.Reason
	}{
		{"whole", 0, -1, steps{raw(200, 5, io.EOF, "hello")}, []string{""}, 0, "hello", ""},
		{"whole by its length", 0, 5, steps{raw(200, 5, io.EOF, "hello")}, []string{""}, 0, "hello", ""},
		{"more than the blob has", 0, 99, steps{raw(200, 5, io.EOF, "hello")}, []string{""}, 0, "hello", ""},
		{"no Content-Length", 0, -1, steps{raw(200, -1, io.EOF, "hello")}, []string{""}, 0, "hello", ""},
		{"the end", 1, -1, steps{raw(206, 4, io.EOF, "ello", k, v14)}, []string{"bytes=1-4"}, 1, "ello", ""},
		{"the middle", 1, 2, steps{raw(206, 2, io.EOF, "el", k, v12)}, []string{"bytes=1-2"}, 1, "el", ""},
		{"the beginning", 0, 2, steps{raw(206, 2, io.EOF, "he", "Content-Range", "bytes 0-1/5")}, []string{"bytes=0-1"}, 0, "he", ""},
		{"the middle, more is sent", 1, 2, steps{raw(206, 4, io.EOF, "ello", k, v14)}, []string{"bytes=1-2"}, 1, "el", ""},
		{"the middle, Range is ignored", 1, 2, steps{raw(200, 5, io.EOF, "hello")}, []string{"bytes=1-2"}, 0, "hel", ""},
		{"the middle, cut", 1, 3, steps{raw(206, 3, reset, "e", k, "bytes 1-3/5"), raw(206, 2, io.EOF, "ll", k, v23)}, []string{"bytes=1-3", "bytes=2-3"}, 1, "ell", ""},
		{"the middle, cut, then all of it", 1, 3, steps{raw(206, 3, reset, "e", k, "bytes 1-3/5"), raw(200, 5, io.EOF, "hello")}, []string{"bytes=1-3", "bytes=2-3"}, 1, "ell", ""},
		{"cut, then all of it, cut before anything is new", 0, -1,
			steps{raw(200, 5, reset, "hel"), raw(200, 5, reset, "he"), raw(206, 2, io.EOF, "lo", k, "bytes 3-4/5")}, []string{"", "bytes=3-4", "bytes=3-4"}, 0, "hello", ""},
		{"cut, then 416, then all of it", 0, -1, steps{raw(200, 5, reset, "he"), code(416), raw(200, 5, io.EOF, "hello")}, []string{"", "bytes=2-4", ""}, 0, "hello", ""},
		{"cut, then 416 for ever", 0, -1, steps{raw(200, 5, reset, "he"), code(416), raw(200, 5, reset, "hel"), code(416)}, []string{"", "bytes=2-4", "", "bytes=3-4"}, 0, "hel", content.ErrSizeMismatch},
		{"cut, then bad ranges for ever", 0, -1, steps{raw(200, 5, reset, "he"), raw(206, 4, io.EOF, "ello", k, v14), raw(200, 5, reset, "hel"), raw(206, 3, io.EOF, "llo", k, v24)},
			[]string{"", "bytes=2-4", "", "bytes=3-4"}, 0, "hel", content.ErrRange},
		{"206 without a Range in the request, after a bad range", 1, -1, steps{code(416), raw(206, 5, io.EOF, "hello", k, "bytes 0-4/5")}, []string{"bytes=1-4", ""}, 0, "", content.ErrRange},
		{"416 without a Range in the request", 0, -1, steps{code(416)}, []string{""}, 0, "", content.ErrRange},
		{"one byte more", 0, -1, steps{raw(200, 6, io.EOF, "hello!")}, []string{""}, 0, "hello", content.ErrSizeMismatch},
		{"one byte more, no Content-Length", 0, -1, steps{raw(200, -1, io.EOF, "hello!")}, []string{""}, 0, "hello", content.ErrSizeMismatch},
		{"one byte more at the end of a range", 1, -1, steps{raw(206, 5, io.EOF, "ello!", k, v14)}, []string{"bytes=1-4"}, 1, "ello", content.ErrSizeMismatch},
		{"a larger Content-Length, and cut after the blob", 0, -1, steps{raw(200, 9, reset, "hello")}, []string{""}, 0, "hello", ""},
		{"less for ever", 0, -1, steps{raw(200, 2, io.EOF, "he"), raw(206, 0, io.EOF, "", k, v24)}, []string{"", "bytes=2-4", "bytes=2-4", "bytes=2-4", "bytes=2-4"}, 0, "he", content.ErrNetwork},
		{"empty, once", 0, -1, steps{raw(200, 0, io.EOF, ""), raw(200, 5, io.EOF, "hello")}, []string{"", ""}, 0, "hello", ""},
		{"multipart", 1, 2, steps{raw(206, 99, io.EOF, "--x", "Content-Type", "multipart/byteranges; boundary=x"), raw(200, 5, io.EOF, "hello")}, []string{"bytes=1-2", ""}, 0, "hel", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ranges []string
				c := newClient(t, registry.Config{WrapTransport: instead(asking(&ranges, tt.steps...))})
				body, err := c.Blob(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, helloBlob(), tt.off, tt.n)
				var data []byte
				if err == nil {
					assert.Equal(t, tt.start, body.Start)
					data, err = io.ReadAll(body)
					assert.NoError(t, body.Close())
					_, closed := body.Read(make([]byte, 1))
					assert.Error(t, closed)
				}
				assert.Equal(t, tt.kind, content.ReasonOf(err), "%v", err)
				assert.Equal(t, tt.want, string(data))
				assert.Equal(t, tt.ranges, ranges)
				if tt.kind == content.ErrNetwork {
					assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
				}
			})
		})
	}
}

// TestAHostThatIgnoresRangeIsGivenUp: a host that ignores Range and sends one more byte
// in each answer does not make the Client fetch the blob for ever.
func TestAHostThatIgnoresRangeIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1000
		blob := make([]byte, size)
		tr, given := &timed{}, 0
		tr.steps = []func(*http.Request) (*http.Response, error){func(req *http.Request) (*http.Response, error) {
			given++
			return raw(200, size, errors.New("connection reset by peer"), string(blob[:min(given, size)]))(req)
		}}
		_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), blob)
		assert.ErrorIs(t, err, content.ErrNetwork)
		assert.Less(t, len(tr.at), 200)
	})
}

// TestAHostWithOneByteInEachAnswerIsGivenUp: a host that cuts each answer after one byte
// is too slow, although each single answer is quick.
func TestAHostWithOneByteInEachAnswerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 200 << 10
		blob := make([]byte, size)
		pos, began := 0, time.Now()
		tr := &timed{steps: []func(*http.Request) (*http.Response, error){func(req *http.Request) (*http.Response, error) {
			status, header := 200, []string(nil)
			if pos > 0 {
				status, header = 206, []string{"Content-Range", fmt.Sprintf("bytes %d-%d/%d", pos, size-1, size)}
			}
			pos++
			return raw(status, int64(size-pos+1), errors.New("connection reset by peer"), "x", header...)(req)
		}}}
		_, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), blob)
		assert.ErrorIs(t, err, content.ErrTimeout)
		assert.LessOrEqual(t, time.Since(began), time.Minute+time.Second)
	})
}

// After an answer that brought 1 MiB and was cut, the next request follows at once. After an
// answer that brought less, the client waits first.
func TestTheNextRequestFollowsAtOnceAfter1MiB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 4 << 20
		blob := make([]byte, size)
		cutAt := func(from, to int) func(*http.Request) (*http.Response, error) {
			status, header := 200, []string(nil)
			if from > 0 {
				status, header = 206, []string{"Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, size-1, size)}
			}
			return raw(status, int64(size-from), io.EOF, string(blob[from:to]), header...)
		}
		tr := &timed{steps: []func(*http.Request) (*http.Response, error){
			cutAt(0, 1<<20), cutAt(1<<20, 2<<20), cutAt(2<<20, 3<<20-1), cutAt(3<<20-1, size),
		}}
		got, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), blob)
		require.NoError(t, err)
		assert.Len(t, got, size)
		gaps := tr.gaps()
		require.Len(t, gaps, 3)
		assert.Zero(t, gaps[0])
		assert.Zero(t, gaps[1])
		assert.InDelta(t, 25*time.Millisecond, gaps[2], float64(13*time.Millisecond))
	})
}

// An answer that announced more bytes than the blob has and then stalls does not hold the
// reader.
func TestABodyEndsAtTheSizeOfTheBlob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		tr := &timed{steps: []func(*http.Request) (*http.Response, error){func(req *http.Request) (*http.Response, error) {
			resp, err := drip([]byte(hello+"!"), 5, 0, 5)(req)
			return resp, err
		}}}
		data, err := blobRead(t, newClient(t, registry.Config{WrapTransport: instead(tr)}), []byte(hello))
		assert.NoError(t, err)
		assert.Equal(t, hello, string(data))
		assert.Equal(t, time.Second, time.Since(began))
	})
}

// Reject reports true, once in ten minutes, if the wrong bytes came from more than one
// answer, or if the body did not begin at the start of the blob.
func TestRejectIsTrueOnceInTenMinutes(t *testing.T) {
	reset := errors.New("connection reset by peer")
	whole := raw(200, 5, io.EOF, "hello")
	rest := raw(206, 3, io.EOF, "llo", "Content-Range", "bytes 2-4/5")
	for _, tt := range []struct {
		name string
		off  int64
		step []func(*http.Request) (*http.Response, error)
		want bool
	}{
		{"one answer", 0, []func(*http.Request) (*http.Response, error){whole}, false},
		{"two answers", 0, []func(*http.Request) (*http.Response, error){raw(200, 5, reset, "he"), rest}, true},
		{"one answer after bytes kept before", 2, []func(*http.Request) (*http.Response, error){rest}, true},
		{"all of it although bytes were kept", 2, []func(*http.Request) (*http.Response, error){whole}, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr := &timed{steps: tt.step}
			c := newClient(t, registry.Config{WrapTransport: instead(tr)})
			reject := func() bool {
				tr.at = nil
				body, err := c.Blob(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, helloBlob(), tt.off, -1)
				require.NoError(t, err)
				defer body.Close()
				_, err = io.ReadAll(body)
				require.NoError(t, err)
				return body.Reject()
			}
			assert.Equal(t, tt.want, reject(), tt.name)
			assert.False(t, reject(), "%s, again", tt.name)
			time.Sleep(10 * time.Minute)
			assert.Equal(t, tt.want, reject(), "%s, later", tt.name)
		})
	}
}

func TestAClosedBodyReturnsErrClosed(t *testing.T) {
	c := newClient(t, registry.Config{WrapTransport: instead(&timed{steps: []func(*http.Request) (*http.Response, error){raw(200, 5, io.EOF, "hello")}})})
	body, err := c.Blob(t.Context(), content.Repo{Ref: reference.MustParse("reg.example/app:v1"), Cred: noCredential}, helloBlob(), 0, -1)
	require.NoError(t, err)
	n, err := body.Read(nil)
	assert.Zero(t, n)
	assert.NoError(t, err)
	require.NoError(t, body.Close())
	require.NoError(t, body.Close())
	_, err = body.Read(make([]byte, 1))
	assert.ErrorIs(t, err, fs.ErrClosed)
}

// If the answer of a mirror is cut before its first byte, the registry is asked at once.
func TestTheRegistryFollowsAMirrorThatSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var asked []string
		tr := &timed{steps: []func(*http.Request) (*http.Response, error){func(req *http.Request) (*http.Response, error) {
			asked = append(asked, req.URL.Host)
			if req.URL.Host == "mirror.example" {
				return raw(200, 5, errors.New("connection reset by peer"), "")(req)
			}
			return raw(200, 5, io.EOF, hello)(req)
		}}}
		c := newClient(t, registry.Config{WrapTransport: instead(tr), Registries: map[string]registry.Hosts{"reg.example": {Mirrors: []registry.Host{{URL: "https://mirror.example"}}}}})
		got, err := blobRead(t, c, []byte(hello))
		require.NoError(t, err)
		assert.Equal(t, hello, string(got))
		assert.Equal(t, []string{"mirror.example", "reg.example"}, asked)
		assert.Zero(t, time.Since(began))
	})
}
