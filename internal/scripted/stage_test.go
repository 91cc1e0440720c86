package scripted

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func at(n int64) *int64 { return &n }

// play starts a stage and a client that does not follow redirects.
func play(t *testing.T, sc Scenario, network *pullertest.Network) (*Stage, *http.Client) {
	t.Helper()
	stage, err := Play(sc, network)
	require.NoError(t, err)
	transport := &http.Transport{DisableCompression: true}
	if network != nil {
		transport.DialContext = network.DialContext
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(stage.CA())
	transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		assert.NoError(t, stage.Close())
	})
	return stage, &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// both runs a test twice: on sockets, and in a synctest bubble with a network in memory.
func both(t *testing.T, test func(t *testing.T, network *pullertest.Network)) {
	t.Helper()
	t.Run("sockets", func(t *testing.T) { test(t, nil) })
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, &pullertest.Network{}) })
	})
}

type answer struct {
	*http.Response
	body string
}

func ask(t *testing.T, c *http.Client, method, url string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return answer{resp, string(body)}
}

func TestAStageWithoutRulesBehavesWell(t *testing.T) {
	both(t, func(t *testing.T, network *pullertest.Network) {
		sc := Scenario{
			Name:    "well",
			Auth:    &Auth{Mode: "bearer", User: "robot", Pass: "pw", Token: "tok-secret"},
			Secrets: map[string]string{"pw": "pw", "tok": "tok-secret"},
		}
		stage, c := play(t, sc, network)
		url := stage.Fill("http://{{main}}/v2/team/app/manifests/v1")
		assert.Equal(t, stage.Fill("{{main}}/team/app:v1"), stage.Image())
		assert.Equal(t, "linux/amd64", stage.Platform())

		got := ask(t, c, "GET", url)
		assert.Equal(t, 401, got.StatusCode)
		assert.Equal(t, stage.Fill(`Bearer realm="http://{{main}}/token",service="hostile",scope="repository:team/app:pull"`), got.Header.Get("Www-Authenticate"))
		assert.Equal(t, 401, ask(t, c, "GET", stage.Fill("http://{{main}}/token")).StatusCode)
		token := ask(t, c, "GET", stage.Fill("http://{{main}}/token"), "Authorization", stage.Fill("Basic {{basic:robot:pw}}"))
		assert.Contains(t, token.body, `"tok-secret"`)
		got = ask(t, c, "GET", url, "Authorization", "Bearer tok-secret")
		assert.Equal(t, stage.Fill("{{raw:m}}"), got.body)
		assert.Equal(t, stage.Fill("{{digest:m}}"), got.Header.Get("Docker-Content-Digest"))
		for _, d := range []string{"{{digest:l2}}", "{{digest512:l2}}"} {
			got = ask(t, c, "GET", stage.Fill("https://{{tls}}/v2/x/blobs/"+d), "Authorization", "Bearer tok-secret", "Range", "bytes=1-2")
			assert.Equal(t, 206, got.StatusCode)
			assert.Equal(t, stage.Fill("{{raw:l2}}")[1:3], got.body)
		}
		assert.Equal(t, 404, ask(t, c, "GET", stage.Fill("http://{{second}}/v2/team/app/manifests/v1")).StatusCode)

		var seen []string
		for _, r := range stage.Log() {
			seen = append(seen, fmt.Sprint(r.Listener, " ", r.Method, " ", r.Status, " ", r.Secrets, " ", r.Rule))
		}
		assert.Equal(t, []string{
			"main GET 401 [] -1", "main GET 401 [] -1", "main GET 200 [pw] -1", "main GET 200 [tok] -1",
			"tls GET 206 [tok] -1", "tls GET 206 [tok] -1", "second GET 404 [] -1",
		}, seen)
	})
}

func TestTheFirstRuleThatMatchesAnswers(t *testing.T) {
	both(t, func(t *testing.T, network *pullertest.Network) {
		stage, c := play(t, Scenario{Rules: []Rule{
			{Match: Match{Path: "/count"}, Skip: 1, Times: 2, Respond: Respond{Status: 201}},
			{Match: Match{Path: "/count"}, Respond: Respond{Status: 202}},
			{On: "port|second", Match: Match{}, Respond: Respond{Status: 203}},
			{On: "any", Match: Match{Path: "/any"}, Respond: Respond{Status: 204}},
			{Match: Match{Path: "/method", Method: "GET|PUT"}, Respond: Respond{Status: 205}},
			{Match: Match{Path: "/header", Header: map[string]string{"X-A": "1.3", "X-B": ""}}, Respond: Respond{Status: 206}},
			{Match: Match{Path: "/auth", Auth: "bearer"}, Respond: Respond{Status: 207}},
			{Match: Match{Path: "/auth", Auth: "none"}, Respond: Respond{Status: 208}},
			{Match: Match{Path: "/auth", Auth: "some"}, Respond: Respond{Status: 209}},
			{Match: Match{Query: "b=2"}, Respond: Respond{Status: 210}},
			{Match: Match{Path: "/v2/"}, Respond: Respond{Default: true}},
			{Match: Match{Path: "/.*"}, Respond: Respond{Status: 211}},
		}}, network)
		status := func(method, url string, header ...string) int {
			return ask(t, c, method, stage.Fill(url), header...).StatusCode
		}
		for _, want := range []int{202, 201, 201, 202} {
			assert.Equal(t, want, status("GET", "http://{{main}}/count"))
		}
		assert.Equal(t, 203, status("GET", "http://{{port}}/x"))
		assert.Equal(t, 203, status("GET", "http://{{second}}/any"))
		assert.Equal(t, 204, status("GET", "https://{{tls}}/any"))
		assert.Equal(t, 205, status("PUT", "http://{{main}}/method"))
		assert.Equal(t, 211, status("PUTS", "http://{{main}}/method"))
		assert.Equal(t, 206, status("GET", "http://{{main}}/header", "X-A", "0123"))
		assert.Equal(t, 211, status("GET", "http://{{main}}/header", "X-A", "0123", "X-B", "1"))
		assert.Equal(t, 207, status("GET", "http://{{main}}/auth", "Authorization", "bearer x"))
		assert.Equal(t, 208, status("GET", "http://{{main}}/auth"))
		assert.Equal(t, 209, status("GET", "http://{{main}}/auth", "Authorization", "x"))
		assert.Equal(t, 210, status("GET", "http://{{main}}/x?a=1&b=2"))
		assert.Equal(t, 200, status("GET", "http://{{main}}/v2/"))
		assert.Equal(t, 0, stage.Log()[0].Rule-1, "the second rule answered the first request")
	})
}

// fetch returns the answer to a GET, with the error if the answer does not end well.
func fetch(t *testing.T, c *http.Client, url string, header ...string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func TestAnswersHaveTheFaultsOfTheirRule(t *testing.T) {
	text := []Object{{ID: "o", Gen: "text", Text: "0123456789"}}
	for name, tt := range map[string]struct {
		respond Respond
		header  []string
		status  int
		body    string
		err     error
		check   func(t *testing.T, resp *http.Response)
	}{
		"whole":       {respond: Respond{BodyOf: "o"}, status: 200, body: "0123456789"},
		"fill":        {respond: Respond{Body: "<", FillSize: 3, FillByte: "x", BodyTail: ">"}, status: 200, body: "<xxx>"},
		"flip":        {respond: Respond{BodyOf: "o", FlipAt: at(1)}, status: 200, body: "0023456789"},
		"cut rst":     {respond: Respond{BodyOf: "o", CutAfter: at(4)}, status: 200, body: "0123", err: errReset},
		"cut fin":     {respond: Respond{BodyOf: "o", CutAfter: at(4), CutHow: "fin"}, status: 200, body: "0123", err: io.ErrUnexpectedEOF},
		"too long":    {respond: Respond{BodyOf: "o", Length: at(99)}, status: 200, body: "0123456789", err: io.ErrUnexpectedEOF},
		"too short":   {respond: Respond{BodyOf: "o", Length: at(3)}, status: 200, body: "012"},
		"no length":   {respond: Respond{BodyOf: "o", NoLength: true}, status: 200, body: "0123456789"},
		"chunked":     {respond: Respond{BodyOf: "o", Chunked: true, SlowBytes: 3}, status: 200, body: "0123456789"},
		"drop":        {respond: Respond{Drop: true}, err: errAny},
		"raw":         {respond: Respond{Raw: "SSH-2.0-{{size:o}}\r\n"}, err: errAny},
		"ignore":      {respond: Respond{BodyOf: "o", Range: "ignore"}, header: []string{"Range", "bytes=6-"}, status: 200, body: "0123456789"},
		"honest":      {respond: Respond{BodyOf: "o", Range: "honest"}, header: []string{"Range", "bytes=6-"}, status: 206, body: "6789", check: contentRange("bytes 6-9/10")},
		"honest end":  {respond: Respond{BodyOf: "o", Range: "honest"}, header: []string{"Range", "bytes=2-4"}, status: 206, body: "234", check: contentRange("bytes 2-4/10")},
		"wrong start": {respond: Respond{BodyOf: "o", Range: "wrong-start"}, header: []string{"Range", "bytes=6-"}, status: 206, body: "3456789", check: contentRange("bytes 3-9/10")},
		"wrong data":  {respond: Respond{BodyOf: "o", Range: "wrong-data"}, header: []string{"Range", "bytes=6-"}, status: 206, body: "3456", check: contentRange("bytes 6-9/10")},
		"short":       {respond: Respond{BodyOf: "o", Range: "short"}, header: []string{"Range", "bytes=6-"}, status: 206, body: "67", check: contentRange("bytes 6-9/10")},
		"beyond":      {respond: Respond{BodyOf: "o", Range: "beyond"}, header: []string{"Range", "bytes=6-"}, status: 206, body: "6789" + strings.Repeat("\x00", 10), check: contentRange("bytes 6-20/30")},
		"no range":    {respond: Respond{BodyOf: "o", Range: "honest"}, status: 200, body: "0123456789"},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, network *pullertest.Network) {
				stage, c := play(t, Scenario{Objects: text, Rules: []Rule{{Respond: tt.respond}}}, network)
				for _, origin := range []string{"http://{{main}}/", "https://{{tls}}/"} {
					resp, body, err := fetch(t, c, stage.Fill(origin), tt.header...)
					if tt.status == 0 {
						assert.Error(t, err)
						continue
					}
					require.NotNil(t, resp, "%v", err)
					assert.Equal(t, tt.status, resp.StatusCode)
					assert.Equal(t, tt.body, body)
					if tt.err == errReset {
						var reset *net.OpError
						assert.ErrorAs(t, err, &reset, "an error of the connection, not only the end of the body")
					} else {
						assert.ErrorIs(t, err, tt.err)
					}
					if tt.check != nil {
						tt.check(t, resp)
					}
				}
				require.NoError(t, stage.Close()) // after that no answer is under way
				if tt.respond.Length == nil || *tt.respond.Length > 10 {
					assert.EqualValues(t, 2*len(tt.body), stage.Sent())
				}
			})
		})
	}
}

var (
	errAny   = errors.New("some error")
	errReset = errors.New("the error that this system has for a connection that was reset")
)

func contentRange(want string) func(*testing.T, *http.Response) {
	return func(t *testing.T, resp *http.Response) {
		assert.Equal(t, want, resp.Header.Get("Content-Range"))
	}
}

func TestGzipPacksTheWholeBody(t *testing.T) {
	stage, c := play(t, Scenario{Rules: []Rule{{Respond: Respond{Body: "a", FillSize: 3<<20 + 5, BodyTail: "z", Gzip: true}}}}, nil)
	resp, body, err := fetch(t, c, stage.Fill("http://{{main}}/"))
	require.NoError(t, err)
	assert.Equal(t, "gzip", resp.Header.Get("Content-Encoding"))
	assert.Less(t, len(body), 20_000)
	z, err := gzip.NewReader(strings.NewReader(body))
	require.NoError(t, err)
	plain, err := io.ReadAll(z)
	require.NoError(t, err)
	assert.Equal(t, "a"+strings.Repeat("A", 3<<20+5)+"z", string(plain))
}

func TestAnswersAreAsSlowAsTheirRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stage, c := play(t, Scenario{Rules: []Rule{
			{Match: Match{Path: "/delay"}, Respond: Respond{Body: "x", DelayMS: 300_000}},
			{Match: Match{Path: "/drip"}, Respond: Respond{Body: "0123456789", SlowBytes: 2, SlowMS: 500}},
			{Match: Match{Path: "/stall"}, Respond: Respond{Body: "0123456789", StallAt: at(4)}},
		}}, &pullertest.Network{})
		began := time.Now()
		_, body, err := fetch(t, c, stage.Fill("http://{{main}}/delay"))
		require.NoError(t, err)
		assert.Equal(t, "x", body)
		assert.Equal(t, 5*time.Minute, time.Since(began))

		began = time.Now()
		_, body, err = fetch(t, c, stage.Fill("http://{{main}}/drip"))
		require.NoError(t, err)
		assert.Equal(t, "0123456789", body)
		assert.InDelta(t, 2500, time.Since(began).Milliseconds(), 501)

		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", stage.Fill("http://{{main}}/stall"), nil)
		require.NoError(t, err)
		resp, err := c.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		assert.Equal(t, "0123", string(got))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestSentCountsTheBytesOfOneRun(t *testing.T) {
	stage, c := play(t, Scenario{Rules: []Rule{{Respond: Respond{Body: "12345"}}}}, nil)
	first := stage.notifySent(10)
	for range 2 {
		_, _, err := fetch(t, c, stage.Fill("http://{{main}}/"))
		require.NoError(t, err)
	}
	<-first
	assert.EqualValues(t, 10, stage.Sent())
	stage.BeginRun(1)
	assert.Zero(t, stage.Sent())
	second := stage.notifySent(5)
	_, _, err := fetch(t, c, stage.Fill("http://{{main}}/"))
	require.NoError(t, err)
	<-second
	assert.Equal(t, 1, stage.Log()[2].Run)
}

func TestObjectsAreBuiltAsDescribed(t *testing.T) {
	stage, c := play(t, Scenario{
		Objects: []Object{
			{ID: "l", Gen: "layer", Size: 10, Seed: 1},
			{ID: "b", Gen: "bytes", Size: 10, Seed: 1},
			{ID: "bomb", Gen: "bomb", Size: 1 << 20},
			{ID: "c", Gen: "config", Layers: []string{"l"}},
			{ID: "m", Gen: "manifest", Config: "c", Layers: []string{"l", "sha256:x"}, Override: map[string]string{"layers.0.size": "7", "config.digest": "<delete>", "x": `"{{size:b}}"`}},
			{ID: "i", Gen: "index", Of: []IndexEntry{{"m", "linux/arm/v7"}, {"m", ""}}},
			{ID: "n", Gen: "nest", Depth: 2, Of: []IndexEntry{{"m", "linux/amd64"}}},
		},
		Tags: map[string]string{"nest": "n"},
	}, nil)
	assert.Equal(t, "10", stage.Fill("{{size:b}}"))
	assert.Contains(t, stage.Fill("{{raw:m}}"), `"size":7`)
	assert.Contains(t, stage.Fill("{{raw:m}}"), `"digest":"sha256:x"`)
	assert.Contains(t, stage.Fill("{{raw:m}}"), `"x":"10"`)
	assert.NotContains(t, stage.Fill("{{raw:m}}"), stage.Fill("{{digest:c}}"))
	assert.Contains(t, stage.Fill("{{raw:i}}"), `"variant":"v7"`)
	assert.Contains(t, stage.Fill("{{raw:n}}"), stage.Fill("{{digest:n_0}}"))
	assert.Contains(t, stage.Fill("{{raw:n_0}}"), stage.Fill("{{digest:m}}"))
	assert.Less(t, len(stage.Fill("{{raw:bomb}}")), 20_000)
	assert.Equal(t, "{{what}} {{digest:no}} {{pad:x}} AAA {{", stage.Fill("{{what}} {{digest:no}} {{pad:x}} {{pad:3}} {{"))
	_, body, err := fetch(t, c, stage.Fill("http://{{main}}/v2/any/thing/manifests/nest"))
	require.NoError(t, err)
	assert.Equal(t, stage.Fill("{{raw:n_1}}"), body)
}

func TestInvalidScenariosAreRefused(t *testing.T) {
	for name, sc := range map[string]Scenario{
		"gen":        {Objects: []Object{{ID: "x", Gen: "?"}}},
		"override":   {Objects: []Object{{ID: "x", Gen: "manifest", Override: map[string]string{"layers.3": "1"}}}},
		"no JSON":    {Objects: []Object{{ID: "x", Gen: "manifest", Override: map[string]string{"a": "{"}}}},
		"scalar":     {Objects: []Object{{ID: "x", Gen: "manifest", Override: map[string]string{"schemaVersion.a": "1"}}}},
		"platform":   {Objects: []Object{{ID: "x", Gen: "index", Of: []IndexEntry{{"x", "linux"}}}}},
		"nest":       {Objects: []Object{{ID: "x", Gen: "nest"}}},
		"size":       {Objects: []Object{{ID: "x", Gen: "layer", Size: -1}}},
		"expression": {Rules: []Rule{{Match: Match{Path: "("}}}},
		"header":     {Rules: []Rule{{Match: Match{Header: map[string]string{"A": "("}}}}},
	} {
		_, err := Play(sc, &pullertest.Network{})
		assert.Error(t, err, name)
	}
	for _, text := range []string{"", "{}", "[{}]", `[{"name":"a","unknown":1}]`, `[] []`, `[{"expect":{},"runs":[{}]}]`} {
		_, err := Parse([]byte(text))
		assert.Error(t, err, text)
	}
}

func TestCloseEndsAnswersInTheMiddle(t *testing.T) {
	get := func(stage *Stage, c *http.Client) <-chan error {
		done := make(chan error, 1)
		go func() {
			resp, err := c.Get(stage.Fill("http://{{main}}/"))
			if err == nil {
				defer resp.Body.Close()
				_, err = io.Copy(io.Discard, resp.Body)
			}
			done <- err
		}()
		return done
	}
	both(t, func(t *testing.T, network *pullertest.Network) {
		stage, c := play(t, Scenario{Rules: []Rule{{Respond: Respond{FillSize: 1 << 40}}}}, network)
		some := stage.notifySent(1)
		done := get(stage, c)
		<-some
		require.NoError(t, stage.Close())
		assert.Error(t, <-done)
	})
	synctest.Test(t, func(t *testing.T) {
		for _, respond := range []Respond{{DelayMS: 1 << 30}, {Body: "x", StallAt: at(0)}} {
			stage, c := play(t, Scenario{Rules: []Rule{{Respond: respond}}}, &pullertest.Network{})
			done := get(stage, c)
			synctest.Wait()
			require.Len(t, stage.Log(), 1)
			require.NoError(t, stage.Close())
			assert.Error(t, <-done)
		}
	})
}
