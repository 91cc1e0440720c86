package realtest

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A RegistryConfig has the settings of a docker-registry that StartRegistry starts. The
// zero RegistryConfig is an empty registry over plain http without authentication.
type RegistryConfig struct {
	Dir      string            // of its storage; "" means a new one
	CA       *CA               // serves https, HTTP/2 included, with a certificate for localhost and 127.0.0.1; nil means http
	Htpasswd map[string]string // passwords by user name; nil means no basic authentication
	Issuer   *Issuer           // issues the tokens that the registry requires; nil means none. CA must be the authority of the Issuer
	Remote   string            // URL of another registry, which this one caches; "" means none
}

// A DockerRegistry is a running docker-registry. It is started by StartRegistry.
type DockerRegistry struct {
	Host string // as it is written in image names: 127.0.0.1:port
	URL  string // its origin
	Dir  string // of its storage

	stop func()
}

// StartRegistry starts the installed docker-registry, and stops it at the end of the
// test. If the program is missing, the test is skipped or fails, as with Need.
func StartRegistry(t testing.TB, conf RegistryConfig) *DockerRegistry {
	t.Helper()
	program := Need(t, "docker-registry")
	r := &DockerRegistry{Dir: conf.Dir}
	if r.Dir == "" {
		r.Dir = t.TempDir()
	}
	file := filepath.Join(t.TempDir(), "config.json") // JSON is YAML
	data, err := json.Marshal(conf.document(t, r.Dir))
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.run(t, exec.Command(program, "serve", file))
	r.URL = "http://" + r.Host
	if conf.CA != nil {
		r.URL = "https://" + r.Host
	}
	return r
}

func (conf RegistryConfig) document(t testing.TB, dir string) map[string]any {
	http := map[string]any{"addr": "127.0.0.1:0"}
	doc := map[string]any{
		"version": "0.1",
		"log":     map[string]any{"level": "info", "accesslog": map[string]any{"disabled": true}},
		"storage": map[string]any{"filesystem": map[string]any{"rootdirectory": dir}, "delete": map[string]any{"enabled": true}},
		"http":    http,
	}
	if conf.CA != nil {
		_, cert, key := conf.CA.Issue(t, "registry", "localhost", "127.0.0.1")
		http["tls"] = map[string]any{"certificate": cert, "key": key}
	}
	switch {
	case conf.Issuer != nil:
		doc["auth"] = map[string]any{"token": map[string]any{"realm": conf.Issuer.URL, "service": serviceName,
			"issuer": issuerName, "rootcertbundle": conf.CA.File}}
	case conf.Htpasswd != nil:
		doc["auth"] = map[string]any{"htpasswd": map[string]any{"realm": "test", "path": htpasswd(t, conf.Htpasswd)}}
	}
	if conf.Remote != "" {
		doc["proxy"] = map[string]any{"remoteurl": conf.Remote}
	}
	return doc
}

// htpasswd writes a password file and returns its path. The passwords are hashed by
// bcrypt, the only form that docker-registry reads.
func htpasswd(t testing.TB, users map[string]string) string {
	program := Need(t, "htpasswd")
	file := filepath.Join(t.TempDir(), "htpasswd")
	var all bytes.Buffer
	for name, password := range users {
		cmd := exec.Command(program, "-niB", name)
		cmd.Stdin = strings.NewReader(password)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("htpasswd: %v", err)
		}
		all.Write(out)
	}
	if err := os.WriteFile(file, all.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run starts the program and waits until its log has the address at which it listens.
func (r *DockerRegistry) run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // its error only says that the process was killed
		})
	}
	t.Cleanup(r.stop)
	var log strings.Builder
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		log.WriteString(lines.Text() + "\n")
		if _, rest, ok := strings.Cut(lines.Text(), "listening on "); ok {
			r.Host, _, _ = strings.Cut(rest, `"`)
			r.Host, _, _ = strings.Cut(r.Host, ",")
			break
		}
	}
	if r.Host == "" {
		t.Fatalf("docker-registry did not start: %s", log.String())
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
}

// Stop kills the registry, even in the middle of a request. It may be called more than
// once.
func (r *DockerRegistry) Stop() { r.stop() }

// Push stores blobs and a manifest in the registry. The registry must serve plain http
// without authentication. To fill another registry, first start and fill such a registry
// with the same Dir.
func (r *DockerRegistry) Push(t testing.TB, repository, tag, mediaType string, manifest []byte, blobs ...[]byte) {
	t.Helper()
	for _, blob := range blobs {
		r.pushBlob(t, repository, blob)
	}
	resp := do(t, http.MethodPut, r.URL+"/v2/"+repository+"/manifests/"+tag, mediaType, manifest)
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("manifest %s:%s: %s", repository, tag, resp.Status)
	}
}

func (r *DockerRegistry) pushBlob(t testing.TB, repository string, blob []byte) {
	resp := do(t, http.MethodPost, r.URL+"/v2/"+repository+"/blobs/uploads/", "", nil)
	at, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("upload to %s: %s, %v", repository, resp.Status, err)
	}
	query := at.Query()
	query.Set("digest", digestOf(blob))
	at.RawQuery = query.Encode()
	resp = do(t, http.MethodPut, at.String(), "application/octet-stream", blob)
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("blob in %s: %s", repository, resp.Status)
	}
}

func do(t testing.TB, method, url, contentType string, body []byte) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Close = true
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }
