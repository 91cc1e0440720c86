package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
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

// refuseWith returns the error of a Client whose registry refuses a request by this answer.
func refuseWith(t *testing.T, status int, contentType, body string) error {
	w := newWorld(map[string]http.HandlerFunc{"https://r.example": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{contentType}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}})
	c := newClient(t, registry.Config{WrapTransport: instead(w), Retries: -1, MaxWait: -1})
	_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("r.example/team/app:v1")}, "")
	require.Error(t, err)
	return err
}

// The bodies of these refusals are not in OCI's form. They are from public reports.
func TestPublishedRefusalsKeepTheirReason(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors/field/reasons.json")
	require.NoError(t, err)
	var file struct {
		Cases []struct {
			ID, ContentType, Body, Contains, Not string
			Status                               int
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	require.NotEmpty(t, file.Cases)
	for _, c := range file.Cases {
		text := refuseWith(t, c.Status, c.ContentType, c.Body).Error()
		assert.Contains(t, text, c.Contains, c.ID)
		if c.Not != "" {
			assert.NotContains(t, text, c.Not, c.ID)
		}
	}
}

// The error has the text in which a server explains a refusal, for all common forms of
// the body.
func TestTheReasonOfARefusalIsInTheError(t *testing.T) {
	for body, want := range map[string]string{
		`{"errors":[{"code":"DENIED","message":"no"}]}`:                             "DENIED: no",
		`{"errors":[{"code":"DENIED","detail":"by policy 7"}]}`:                     "DENIED: by policy 7",
		`{"errors":[{"code":"DENIED","message":"","detail":{"x":1}}]}`:              "DENIED",
		`{"errors":[{"message":"a"},{"message":"b"}]}`:                              "a; b",
		`{"errors":[{"code":401,"message":"a"}]}`:                                   "a",
		`{"errors":["Bad credentials","second"]}`:                                   "Bad credentials; second",
		`{"errors":"Bad credentials"}`:                                              "Bad credentials",
		`{"errors":{"detail":"Bad credentials"}}`:                                   "Bad credentials",
		`{"message":"Bad credentials"}`:                                             "Bad credentials",
		`{"Message":"Bad credentials"}`:                                             "Bad credentials",
		`{"error":"Invalid bearer token format"}`:                                   "Invalid bearer token format",
		`{"error":"invalid_grant","error_description":"gone"}`:                      "invalid_grant: gone",
		`{"error":{"code":403,"status":"PERMISSION_DENIED","message":"no access"}}`: "no access",
		`{"error":{"message":"no access"}}`:                                         "no access",
		`{"type":"about:blank","title":"Quota","status":403,"detail":"used up"}`:    "Quota: used up",
		`{"title":"Quota"}`:                                                         "Quota",
		`{"errors":[{"code":"DENIED","message":"no","detail":"quota used up"}]}`:    "DENIED: no: quota used up",
		`{"code":"DENIED","message":"no","error":"really"}`:                         "DENIED: no: really",
		`{"message":["quota","used up"]}`:                                           "quota; used up",
		`{"errors":{"name":["quota"]}}`:                                             "quota",
		`{"message":"quota"}{"x":1}`:                                                "quota",
		`{"detail":[{"msg":"quota"}]}`:                                              "quota",
		`{"code":"DENIED","message":"no"}`:                                          "DENIED: no",
		`[{"message":"a"}]`:                                                         "a",
		`"Not Authorized"`:                                                          "Not Authorized",
		"\ufeff{\"message\":\"after a byte order mark\"}":                           "after a byte order mark",
		`{"details":"incorrect username or password"}`:                              "incorrect username or password",
		`{"errors":[{"code":"DENIED","message":"DENIED"},{"code":"DENIED"}]}`:       "DENIED",
		`{"message":"` + strings.Repeat("x", 250) + `"}`:                            strings.Repeat("x", 200) + "...",
	} {
		text := refuseWith(t, 403, "application/json", body).Error()
		assert.True(t, strings.HasSuffix(text, ": 403 Forbidden: "+want), "%s gives %s", body, text)
	}
	for body, want := range map[string]string{
		"Not Authorized\n":                    ": Not Authorized",
		"error code: 1020":                    ": error code: 1020",
		"two\r\nlines\x1b[2J":                 `: two\x0d\x0alines\x1b[2J`,
		strings.Repeat("ü", 300):              ": " + strings.Repeat("ü", 200) + "...",
		"403 Forbidden":                       "",
		"Forbidden":                           "",
		"404 page not found":                  "",
		"<html><body>Forbidden</body></html>": "",
		"Zugriff verweigert f\xfcr alle":      `: Zugriff verweigert f\xfcr alle`,
		"{quota} used up":                     ": {quota} used up",
		"<quota> used up":                     ": <quota> used up",
		"a\x00b":                              "",
		"":                                    "",
	} {
		text := refuseWith(t, 403, "text/plain; charset=utf-8", body).Error()
		assert.True(t, strings.HasSuffix(text, ": 403 Forbidden"+want), "%q gives %s", body, text)
	}
	assert.Contains(t, refuseWith(t, 403, "text/plain; charset", "plain words").Error(), "plain words")
	assert.NotContains(t, refuseWith(t, 403, "text/html", "plain words").Error(), "plain words")
}

// Each Warning header is logged once, at most ten in an hour for each host. Its text is cut,
// escaped, and without secrets.
func TestAWarningHeaderIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		w := newWorld(map[string]http.HandlerFunc{"https://r.example": func(w http.ResponseWriter, _ *http.Request) {
			for _, s := range sent {
				w.Header().Add("Warning", s)
			}
			w.WriteHeader(404)
		}})
		var log bytes.Buffer
		cred := credentials.Credential{RegistryToken: credentials.Conceal("topsecret-token")}
		c := newClient(t, registry.Config{WrapTransport: instead(w), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		logged := func(headers ...string) []string {
			sent = headers
			log.Reset()
			_, err := c.Manifest(t.Context(), content.Repo{Ref: reference.MustParse("r.example/app:v1"), Cred: cred}, "")
			require.Error(t, err)
			var texts []string
			for line := range strings.Lines(log.String()) {
				if _, text, ok := strings.Cut(line, "warning="); ok && strings.Contains(line, "level=WARN") {
					texts = append(texts, strings.TrimSpace(text))
				}
			}
			return texts
		}
		assert.Equal(t, []string{`"your plan ends soon"`}, logged(`299 - "your plan ends soon"`))
		assert.Empty(t, logged(`299 - "your plan ends soon"`), "the same text is not logged again")
		assert.Empty(t, logged(`199 - "x"`, `299 agent "x"`, `299 - x`, `299 - "x`, `299`, ``), "the specification has no such warnings")
		assert.Equal(t, []string{"one", "two", "three"}, logged(`299 - "one", 299 - "two"`, `299  -  "three"`, `299 agent "four", 199 - "five"`))
		assert.Equal(t, []string{`"you sent [redacted] \\u202e"`}, logged("299 - \"you sent topsecret-token \u202e\""))
		assert.Equal(t, []string{strings.Repeat("x", 200) + "..."}, logged(`299 - "`+strings.Repeat("x", 300)+`"`))
		var many []string
		for i := range 30 {
			many = append(many, fmt.Sprintf(`299 - "w%d"`, i))
		}
		assert.Len(t, logged(many...), 4, "at most ten in an hour")
		assert.Empty(t, logged(`299 - "another"`))
		time.Sleep(time.Hour)
		assert.Equal(t, []string{"another"}, logged(`299 - "another"`), "warnings are logged again in the next hour")
	})
}
