package pullertest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"io"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
)

// props are the things a scenario's texts can name: objects and listeners.
type props struct {
	objects   map[string]made
	order     []string
	listeners map[string]string // name -> host:port
}

func (p *props) add(id string, m made) {
	if p.objects == nil {
		p.objects = map[string]made{}
	}
	m.digest = sha256Of(m.data)
	p.objects[id] = m
	p.order = append(p.order, id)
}

// fill replaces the placeholders in a text; what is none stays.
func (p *props) fill(text string) string {
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "{{")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		name, after, ok := strings.Cut(rest, "}}")
		value, known := p.value(name)
		if !ok || !known {
			out.WriteString("{{")
			text = rest
			continue
		}
		out.WriteString(value)
		text = after
	}
}

func (p *props) value(placeholder string) (string, bool) {
	what, arg, hasArg := strings.Cut(placeholder, ":")
	if !hasArg {
		host, ok := p.listeners[what]
		return host, ok
	}
	switch what {
	case "basic":
		return base64.StdEncoding.EncodeToString([]byte(arg)), true
	case "pad":
		n, err := strconv.Atoi(arg)
		if err != nil || n < 0 {
			return "", false
		}
		return strings.Repeat("A", n), true
	}
	m, ok := p.objects[arg]
	if !ok {
		return "", false
	}
	switch what {
	case "digest":
		return string(m.digest), true
	case "digest512":
		return string(sha512Of(m.data)), true
	case "hex":
		return m.digest.Encoded(), true
	case "size":
		return strconv.Itoa(len(m.data)), true
	case "raw":
		return string(m.data), true
	}
	return "", false
}

// find returns an object by the digest that its content has.
func (p *props) find(dgst string) (made, bool) {
	for _, id := range p.order {
		m := p.objects[id]
		if dgst == string(m.digest) || strings.HasPrefix(dgst, "sha512:") && dgst == string(sha512Of(m.data)) {
			return m, true
		}
	}
	return made{}, false
}

func sha512Of(data []byte) digest.Digest {
	sum := sha512.Sum512(data)
	return digest.Digest("sha512:" + hex.EncodeToString(sum[:]))
}

// gzipBomb makes a small layer with one large file of zero bytes in it.
func gzipBomb(size int64) (data []byte, diffID digest.Digest, err error) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	hash := sha256.New()
	w := tar.NewWriter(io.MultiWriter(z, hash))
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: size}); err != nil {
		return nil, "", err
	}
	if _, err := io.CopyN(w, repeated(0), size); err != nil {
		return nil, "", err
	}
	if err := w.Close(); err != nil {
		return nil, "", err
	}
	if err := z.Close(); err != nil {
		return nil, "", err
	}
	return packed.Bytes(), digest.Digest("sha256:" + hex.EncodeToString(hash.Sum(nil))), nil
}

// repeated is an endless stream of one byte.
type repeated byte

func (b repeated) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	p[0] = byte(b)
	for n := 1; n < len(p); n *= 2 {
		copy(p[n:], p[:n])
	}
	return len(p), nil
}
