// Command fleet lets the nodes of a cluster pull images from each other, so that their
// registry gives each blob about once. The nodes find each other by gossip
// (hashicorp/memberlist), without a server. For each digest, rendezvous hashing puts the
// nodes into an order: the first one fetches the blob from the registry, and the others ask
// nodes that come before them.
//
//	fleet                          a demonstration on loopback
//	fleet node -dir DIR [flags]    a node
//
// The demonstration starts a registry behind a limited link and eight nodes as processes.
// They pull an image at the same time. Then two nodes are killed, two others are started and
// pull, and a table shows from where the bytes came.
//
// A node prints its addresses, reads commands from its standard input, and answers each of
// them with a line of JSON:
//
//	pull IMAGE    pull an image
//	stats         print how many bytes came from where
//
// It ends with its standard input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pullkit/pullkit/reference"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "fleet:", err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

// errUsage is wrapped by errors about the command line.
var errUsage = errors.New("usage")

func run(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	switch {
	case len(args) == 0:
		return demo(ctx, stdout)
	case slices.Contains([]string{"-h", "-help", "--help"}, args[0]):
		fmt.Fprint(stdout, "usage: fleet                          a demonstration on loopback\n       fleet node -dir DIR [flags]    a node; see fleet node -h\n")
		return nil
	case args[0] != "node":
		return fmt.Errorf("%w: %.80q is not a command: run fleet, or fleet node -h", errUsage, args[0])
	}
	var conf nodeConfig
	flags := flag.NewFlagSet("fleet node", flag.ContinueOnError)
	flags.StringVar(&conf.dir, "dir", "", "`directory` of the node's images and records")
	flags.StringVar(&conf.listen, "listen", "127.0.0.1:0", "`address` for other nodes")
	join := flags.String("join", "", "gossip `addresses` of members, with commas between them")
	key := flags.String("key", "", "`file` with the key that encrypts the gossip: 16, 24 or 32 bytes")
	flags.StringVar(&conf.registry, "registry", "docker.io", "`name` of the registry whose images other nodes may make this node pull")
	flags.BoolVar(&conf.plainHTTP, "plain-http", false, "ask the registry of -registry over http")
	flags.StringVar(&conf.mirror, "mirror", "", "`URL` of a mirror or a cache, which is asked before the registry of -registry")
	flags.BoolVar(&conf.alone, "alone", false, "ask no other node")
	flags.BoolVar(&conf.wrong, "wrong", false, "serve wrong bytes, to see that other nodes then stop asking this one")
	flags.Usage = func() {
		fmt.Fprint(os.Stderr, "usage: fleet node -dir DIR [flags]\n\nflags:\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if conf.dir == "" || flags.NArg() > 0 {
		return fmt.Errorf("%w: fleet node -dir DIR [flags]; see fleet node -h", errUsage)
	}
	if *join != "" {
		conf.join = strings.Split(*join, ",")
	}
	var err error
	if conf.key, err = readKey(*key); err != nil {
		return err
	}
	n, err := startNode(conf)
	if err != nil {
		return err
	}
	err = n.runCommands(ctx, stdin, stdout)
	return errors.Join(err, n.close())
}

// A line is what a node prints.
type line struct {
	// Name and Gossip are the node's addresses for blobs and for joining, in its first line.
	Name   string `json:"name,omitempty"`
	Gossip string `json:"gossip,omitempty"`

	// Image is the image that was pulled, and Seconds how long the pull took.
	Image   string  `json:"image,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Error   string  `json:"error,omitempty"`

	// FromOrigin, FromPeers and ToPeers are bytes of blobs since the start of the node.
	// Members is how many members it knows, itself included.
	FromOrigin int64 `json:"fromOrigin"`
	FromPeers  int64 `json:"fromPeers"`
	ToPeers    int64 `json:"toPeers"`
	Members    int   `json:"members"`
}

// runCommands reads commands from stdin and answers them, until stdin or ctx ends.
func (n *node) runCommands(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	var mu sync.Mutex
	out := json.NewEncoder(stdout)
	say := func(l line) {
		mu.Lock()
		defer mu.Unlock()
		l.FromOrigin, l.FromPeers, l.ToPeers, l.Members = n.fromOrigin.Load(), n.fromPeers.Load(), n.toPeers.Load(), n.members.NumMembers()
		_ = out.Encode(l) // an error means that the program which reads the lines has ended
	}
	say(line{Name: n.name, Gossip: n.gossip()})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(stdin); in.Scan(); {
			select {
			case lines <- in.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	var pulls sync.WaitGroup
	defer pulls.Wait()
	defer cancel() // ends the pulls
	for {
		select {
		case <-ctx.Done():
			return nil
		case text, ok := <-lines:
			if !ok {
				return nil
			}
			command, image, _ := strings.Cut(text, " ")
			switch command {
			case "stats":
				say(line{})
			case "pull":
				pulls.Go(func() { say(n.pullLine(ctx, image)) })
			default:
				say(line{Error: fmt.Sprintf("%.80q is not a command", command)})
			}
		}
	}
}

// pullLine pulls an image and returns the line about the pull.
func (n *node) pullLine(ctx context.Context, image string) line {
	ref, err := reference.Parse(image)
	if err != nil {
		return line{Image: image, Error: err.Error()}
	}
	start := time.Now()
	_, err = n.pull(ctx, ref)
	l := line{Image: image, Seconds: time.Since(start).Seconds()}
	if err != nil {
		l.Error = err.Error()
	}
	return l
}
