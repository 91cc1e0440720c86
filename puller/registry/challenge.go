package registry

import (
	"errors"
	"fmt"
	"strings"
)

// maxChallenge is how many bytes of WWW-Authenticate headers are read.
const maxChallenge = 16 << 10

// A challenge is one way to authenticate that a server offers in an answer (RFC 9110,
// section 11.6.1). The scheme and the names of parameters are in lower case. If a
// parameter occurs twice, the first value is kept.
type challenge struct {
	scheme string
	params map[string]string
	// unclear says that a Bearer challenge has more than one realm. It is then not clear
	// which server gets the secret.
	unclear bool
}

// parseChallenges reads the WWW-Authenticate headers of one answer. It is strict about
// schemes and about the realm of a Bearer challenge, because these choose the server that
// gets a secret. All other parameters, such as the realm of Basic, are read as far as
// possible. After a fault the rest of that header is ignored, because it is not clear
// where the next parameter begins. The error is the first fault, and quotes the header
// with the secrets masked. The challenges that were read are returned together with the
// error.
func parseChallenges(headers []string, secrets ...string) ([]challenge, error) {
	total := 0
	var all []challenge
	var fault error
	for _, header := range headers {
		if total += len(header); total > maxChallenge {
			return all, errors.Join(fault, fmt.Errorf("WWW-Authenticate is longer than %d bytes", maxChallenge))
		}
		p := challengeParser{rest: header, secrets: secrets}
		if err := p.parse(); fault == nil {
			fault = err
		}
		all = append(all, p.found...)
	}
	return all, fault
}

// A challengeParser reads a list of challenges. Elements of the list are separated by
// commas and may be empty. An element "token SP ..." or a single token starts a
// challenge. An element "name=value" adds a parameter to the challenge before it.
type challengeParser struct {
	rest    string
	found   []challenge
	secrets []string
}

func (p *challengeParser) parse() error {
	for {
		p.rest = strings.TrimLeft(p.rest, " \t,")
		if p.rest == "" {
			return nil
		}
		name := p.token()
		if name == "" {
			return p.unreadable()
		}
		afterName := p.rest
		p.space()
		if strings.HasPrefix(p.rest, "=") {
			if err := p.param(strings.ToLower(name)); err != nil {
				return err
			}
			continue
		}
		if afterName != "" && p.rest == afterName && p.rest[0] != ',' {
			return p.unreadable()
		}
		p.found = append(p.found, challenge{scheme: strings.ToLower(name), params: map[string]string{}})
		p.token68()
	}
}

func (p *challengeParser) unreadable() error {
	return fmt.Errorf("WWW-Authenticate cannot be read at %s", quote(p.rest, 40, p.secrets))
}

// param reads the "=value" of a parameter, and adds it to the last challenge.
func (p *challengeParser) param(name string) error {
	if len(p.found) == 0 {
		return fmt.Errorf("WWW-Authenticate has a parameter %s before any scheme", quote(name, 40, p.secrets))
	}
	c := &p.found[len(p.found)-1]
	secretRealm := c.scheme == "bearer" && name == "realm"
	p.rest = p.rest[1:]
	p.space()
	value, err := p.value(secretRealm)
	if err != nil {
		return err
	}
	p.space()
	delimited := p.rest == "" || p.rest[0] == ','
	if !delimited && !secretRealm {
		return p.unreadable()
	}
	if _, twice := c.params[name]; twice {
		c.unclear = c.unclear || secretRealm
	} else {
		c.params[name] = value
	}
	if delimited {
		return nil
	}
	if next, _, _ := strings.Cut(p.rest, ","); strings.Contains(strings.ToLower(next), "realm") {
		c.unclear = true // a second realm without a comma before it
	}
	return p.unreadable()
}

// value reads a quoted string or a token. If strict is false, it reads any text up to
// the next comma in place of a token.
func (p *challengeParser) value(strict bool) (string, error) {
	if strings.HasPrefix(p.rest, `"`) {
		return p.quoted(strict)
	}
	if strict {
		v := p.token()
		if v == "" || p.rest != "" && strings.IndexByte(" \t,", p.rest[0]) < 0 {
			return "", errors.New("WWW-Authenticate has a Bearer realm that is not a quoted string")
		}
		return v, nil
	}
	v, _, _ := strings.Cut(p.rest, ",")
	if strings.ContainsFunc(v, func(r rune) bool { return r == '"' || isControl(r) && r != '\t' }) {
		return "", p.unreadable()
	}
	p.rest = p.rest[len(v):]
	return strings.TrimRight(v, " \t"), nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// quoted reads a quoted string. A backslash may come before any character (RFC 9110,
// section 5.6.4). If strict is set, it may come only before a character that needs one.
func (p *challengeParser) quoted(strict bool) (string, error) {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		c := p.rest[i]
		switch {
		case c == '"':
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case c == '\\':
			if i++; i == len(p.rest) {
				continue
			}
			if c = p.rest[i]; strict && c != '"' && c != '\\' {
				return "", errors.New("WWW-Authenticate has a backslash in a Bearer realm before a character that needs none")
			}
		}
		if isControl(rune(c)) && (strict || c != '\t') {
			return "", errors.New("WWW-Authenticate has a control character")
		}
		b.WriteByte(c)
	}
	return "", errors.New("WWW-Authenticate has a quoted string without an end")
}

// token68 skips the text that some schemes have in place of parameters ("Negotiate
// abc=="), which RFC 9110 calls token68. It may end in equals signs. Nothing follows
// them, unlike the equals sign of a parameter.
func (p *challengeParser) token68() {
	i := 0
	for i < len(p.rest) && (isToken(p.rest[i]) || p.rest[i] == '/') {
		i++
	}
	if i == 0 {
		return
	}
	for i < len(p.rest) && p.rest[i] == '=' {
		i++
	}
	rest := strings.TrimLeft(p.rest[i:], " \t")
	if rest == "" || rest[0] == ',' {
		p.rest = rest
	}
}

func (p *challengeParser) space() { p.rest = strings.TrimLeft(p.rest, " \t") }

func (p *challengeParser) token() string {
	i := 0
	for i < len(p.rest) && isToken(p.rest[i]) {
		i++
	}
	t := p.rest[:i]
	p.rest = p.rest[i:]
	return t
}

// isToken reports whether c may occur in a token (RFC 9110, section 5.6.2).
func isToken(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
