package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pullkit/pullkit/internal/bench/report"
)

// A limit is how many requests of a client nginx lets pass before it answers 429.
type limit struct {
	rate  string // of nginx's limit_req_zone
	burst int
}

func (l limit) String() string { return fmt.Sprintf("%s burst %d", l.rate, l.burst) }

// A front is a real nginx in front of a registry. It is a new process for each pull, so that
// the limit does not count the requests of the client before.
type front struct {
	b     *bench
	limit limit
	reg   *registry
	dir   string
	cmd   *exec.Cmd
	said  tail
}

// nginxConfig is the configuration of a front. It serves https with HTTP/2, as servers in front
// of registries do. It keeps no body in a file, and logs each request.
const nginxConfig = `daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
	log_format line '$request_method $status';
	access_log requests.log line;
	client_body_temp_path tmp;
	proxy_temp_path tmp;
	fastcgi_temp_path tmp;
	uwsgi_temp_path tmp;
	scgi_temp_path tmp;
	limit_req_zone $binary_remote_addr zone=clients:1m rate=%[1]s;
	limit_req_status 429;
	server {
		listen %[3]s ssl http2;
		ssl_certificate %[4]s/server.pem;
		ssl_certificate_key %[4]s/server.key;
		location / {
			limit_req zone=clients burst=%[2]d nodelay;
			proxy_pass http://%[5]s;
			proxy_http_version 1.1;
			proxy_max_temp_file_size 0;
		}
	}
}
`

// front starts a registry. The method begin starts nginx for each pull.
func (b *bench) front(ctx context.Context, l limit) (*front, error) {
	dir, err := os.MkdirTemp(b.dir, "nginx-")
	if err != nil {
		return nil, err
	}
	reg, err := b.serve(ctx)
	return &front{b: b, limit: l, reg: reg, dir: dir}, err
}

func (f *front) begin(ctx context.Context) (host string, err error) {
	if err := f.stop(); err != nil {
		return "", err
	}
	if host, err = freeAddress(); err != nil {
		return "", err
	}
	config := fmt.Sprintf(nginxConfig, f.limit.rate, f.limit.burst, host, f.b.images(), f.reg.host)
	if err := os.WriteFile(filepath.Join(f.dir, "nginx.conf"), []byte(config), 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(f.log(), nil, 0o600); err != nil {
		return "", err
	}
	f.cmd = f.b.command(ctx, f.b.nginx, "-p", f.dir, "-c", "nginx.conf", "-e", "stderr")
	f.cmd.Stderr = &f.said
	if err := f.cmd.Start(); err != nil {
		f.cmd = nil
		return "", err
	}
	return host, f.wait(host)
}

// startLimit is how long nginx may take to listen.
const startLimit = 10 * time.Second

// wait returns when nginx listens.
func (f *front) wait(host string) error {
	for began := time.Now(); time.Since(began) < startLimit; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", host); err == nil {
			return conn.Close()
		}
	}
	err := f.stop()
	return fmt.Errorf("nginx does not listen: %w: %s", err, lastLine(string(f.said)))
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (f *front) log() string { return filepath.Join(f.dir, "requests.log") }

// counts ends nginx, so that its log is complete, and counts the requests in the log.
func (f *front) counts() (c counts, err error) {
	if err := f.stop(); err != nil {
		return c, err
	}
	data, err := os.ReadFile(f.log())
	c.Requests = map[string]int{}
	for line := range strings.Lines(string(data)) {
		c.Requests[strings.TrimSpace(line)]++
	}
	return c, err
}

// stop ends nginx after the requests that it is answering.
func (f *front) stop() error {
	if f.cmd == nil {
		return nil
	}
	cmd := f.cmd
	f.cmd = nil
	stuck := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	_ = cmd.Process.Signal(syscall.SIGQUIT) // an error means that it has ended already
	return cmd.Wait()
}

func (f *front) close() error { return errors.Join(f.stop(), f.reg.close()) }

func nginxSmallRow(b *bench) row { return b.sized("", redirectImage, 1, 200*mib, nil) }

func nginxSmallImages(b *bench) []string { return []string{nginxSmallRow(b).spec()} }

// nginxAll and nginxSome are the rounds of nginx-small with the flag -all and without it.
// nginxLimit is how long a pull behind nginx may take, and nginxOfBase the same for the base,
// which may hang there. Without -all the base has only one round.
const (
	nginxAll    = 20
	nginxSome   = 5
	nginxLimit  = 3 * time.Minute
	nginxOfBase = time.Minute
)

func runNginxSmall(ctx context.Context, b *bench) error {
	rounds := nginxSome
	switch {
	case b.all:
		rounds = nginxAll
	case b.short:
		rounds = 1
	}
	return b.behindNginx(ctx, limit{"20r/m", 8}, nginxSmallRow(b), rounds, func(rs runs, _ []client) []nginxGoal {
		often := report.Goal{Want: fmt.Sprintf("succeeds each time (%d of %d)", rounds, rounds), Got: outcome(rs[pullkit])}
		often.Met = often.Got == "succeeds"
		return []nginxGoal{
			{"outcome", often, outcome},
			{"most requests", fewRequests(rs), mostRequests},
		}
	})
}

func runNginxLarge(ctx context.Context, b *bench) error {
	return b.behindNginx(ctx, limit{"60r/m", 20}, largeRow(b, nil), min(largeRounds, b.rounds), func(rs runs, clients []client) []nginxGoal {
		return []nginxGoal{{wallTime.name, rs.judge(goal{most: 1.1, of: "skopeo"}, clients, wallTime), longest}}
	})
}

// An nginxGoal is a goal and how its figure is printed.
type nginxGoal struct {
	figure string
	goal   report.Goal
	text   func([]result) string
}

// fewRequests returns the goal for the number of requests. The worst run of pullkit is compared
// with the worst run of skopeo.
func fewRequests(rs runs) report.Goal {
	ours, theirs := worst(rs[pullkit]), worst(rs["skopeo"])
	return report.Goal{
		Want: "at most skopeo's + 4", Got: fmt.Sprintf("%d, and skopeo %d", ours, theirs), Met: outcome(rs[pullkit]) == "succeeds" && ours <= theirs+4,
	}
}

// worst returns the most requests in one run.
func worst(results []result) (most int) {
	for _, r := range results {
		most = max(most, r.counts.total())
	}
	return most
}

// mostRequests returns a text with the most requests in one run. Runs that failed count too.
func mostRequests(results []result) string { return fmt.Sprint(worst(results)) }

// longest returns a text with the longest wall time of a run. Runs that failed count too.
func longest(results []result) string {
	most, failed := 0.0, ""
	for _, r := range results {
		most = max(most, r.wall)
		switch {
		case r.late:
			failed = ", not done then"
		case r.err != nil:
			failed = ", with an error"
		}
	}
	return fmt.Sprintf("%.2f", most) + failed
}

// refused returns a text with the most requests in one run that got the status 429.
func refused(results []result) string {
	most := 0
	for _, r := range results {
		most = max(most, r.counts.Requests["GET 429"]+r.counts.Requests["HEAD 429"])
	}
	return fmt.Sprint(most)
}

// behindNginx compares pullkit and the base with skopeo, and not with other peers, because
// skopeo asks for each blob once.
func (b *bench) behindNginx(
	ctx context.Context, l limit, r row, rounds int, judge func(rs runs, clients []client) []nginxGoal,
) (err error) {
	title := fmt.Sprintf("Behind nginx with limit_req %v, status 429: %s", l, r.name)
	var missing []string
	for _, program := range []struct{ name, path string }{{"nginx", b.nginx}, {"skopeo", b.skopeo}} {
		if program.path == "" {
			missing = append(missing, fmt.Sprintf("%s is not installed (apt-get install %[1]s)", program.name))
		}
	}
	t := &report.Table{
		Title: title,
		Head:  []string{"client", "outcome", "most requests", "most refused", "longest, s", "goal", "reached"},
	}
	if missing != nil {
		t.Note("Not measured: %s.", strings.Join(missing, ", "))
		b.reach(title, report.Goal{Want: "as good as skopeo", Got: strings.Join(missing, ", "), Open: true}, "", "", "")
		return b.print(t)
	}
	before := report.Load()
	s, err := b.front(ctx, l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	clients, rs := b.named("skopeo"), runs{}
	for round := range rounds {
		for _, c := range clients {
			j := job{repository: r.image, tag: "1", tls: true, limit: nginxLimit}
			if c.base {
				if j.limit = nginxOfBase; round > 0 && !b.all {
					continue
				}
			}
			result, err := b.pullCold(ctx, s, c, j, pullOne)
			if err != nil {
				return err
			}
			b.note("nginx "+l.String(), c, result)
			rs[c.name] = append(rs[c.name], result)
		}
	}
	goals := judge(rs, clients)
	for _, c := range clients {
		results := rs[c.name]
		cells := []string{c.name, outcome(results), mostRequests(results), refused(results), longest(results)}
		if c.name == pullkit {
			var all []report.Goal
			for _, g := range goals {
				all = append(all, g.goal)
				b.reach(title+": "+g.figure, g.goal, g.text(results), b.ofBase(rs, g.text), g.text(rs["skopeo"])+" skopeo")
			}
			want, reached := report.Cells(all...)
			cells = append(cells, want, reached)
		}
		t.Add(cells...)
	}
	t.Note("%d rounds in turn, each with a new nginx; of the base one, without -all. Load %s before, %s after.",
		rounds, before, report.Load())
	return b.print(t)
}
