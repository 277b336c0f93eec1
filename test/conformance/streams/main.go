// Streams drives a streaming URL with the code that kubectl and the kubelet use: k8s.io/client-go.
//
//	streams run [-transport spdy|websocket] [-protocols a,b] [-stdin] [-stdout=false] [-tty] [-sizes 80x24,132x43] URL
//	    a command or an attach; ends with its exit code, or with 125 and a message
//	streams forward [-transport spdy|websocket] URL PORT...
//	    prints `local remote` for each port, then forwards until its standard input ends
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

const failed = 125

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("usage: streams run|forward ..."))
	}
	verb, args := os.Args[1], os.Args[2:]
	switch verb {
	case "run":
		runCommand(args)
	case "forward":
		forward(args)
	default:
		fail(fmt.Errorf("unknown verb %q", verb))
	}
}

func runCommand(args []string) {
	flags := flag.NewFlagSet("run", flag.ExitOnError)
	transport := flags.String("transport", "spdy", "")
	protocols := flags.String("protocols", "", "the transport's own if empty")
	stdin := flags.Bool("stdin", false, "")
	stdout := flags.Bool("stdout", true, "")
	tty := flags.Bool("tty", false, "")
	sizes := flags.String("sizes", "", "of the terminal, told one after the other")
	_ = flags.Parse(args)
	target := flags.Arg(0)

	executor, err := newExecutor(*transport, target, *protocols)
	if err != nil {
		fail(err)
	}
	options := remotecommand.StreamOptions{Tty: *tty}
	if *stdin {
		options.Stdin = os.Stdin
	}
	if *stdout {
		options.Stdout = os.Stdout
	}
	if !*tty {
		options.Stderr = os.Stderr
	}
	if *sizes != "" {
		options.TerminalSizeQueue = newSizeQueue(*sizes)
	}
	err = executor.StreamWithContext(context.Background(), options)
	var exit exec.CodeExitError
	if errors.As(err, &exit) {
		os.Exit(exit.Code)
	}
	if err != nil {
		fail(err)
	}
}

func newExecutor(transport, target, protocols string) (remotecommand.Executor, error) {
	parsed, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	config := restConfig()
	names := strings.Split(protocols, ",")
	switch {
	case transport == "websocket" && protocols == "":
		return remotecommand.NewWebSocketExecutor(config, http.MethodGet, target)
	case transport == "websocket":
		return remotecommand.NewWebSocketExecutorForProtocols(config, http.MethodGet, target, names...)
	case protocols == "":
		return remotecommand.NewSPDYExecutor(config, http.MethodPost, parsed)
	}
	roundTripper, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return nil, err
	}
	return remotecommand.NewSPDYExecutorForProtocols(roundTripper, upgrader, http.MethodPost, parsed, names...)
}

func restConfig() *rest.Config {
	return &rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

// sizeQueue says each size once, then that there are no more.
type sizeQueue struct{ left []remotecommand.TerminalSize }

func newSizeQueue(list string) *sizeQueue {
	queue := &sizeQueue{}
	for _, item := range strings.Split(list, ",") {
		var size remotecommand.TerminalSize
		if _, err := fmt.Sscanf(item, "%dx%d", &size.Width, &size.Height); err != nil {
			fail(fmt.Errorf("size %q: %w", item, err))
		}
		queue.left = append(queue.left, size)
	}
	return queue
}

func (q *sizeQueue) Next() *remotecommand.TerminalSize {
	if len(q.left) == 0 {
		return nil
	}
	size := q.left[0]
	q.left = q.left[1:]
	return &size
}

func forward(args []string) {
	flags := flag.NewFlagSet("forward", flag.ExitOnError)
	transport := flags.String("transport", "spdy", "")
	_ = flags.Parse(args)
	dialer, err := newDialer(*transport, flags.Arg(0))
	if err != nil {
		fail(err)
	}
	var ports []string
	for _, port := range flags.Args()[1:] {
		ports = append(ports, "0:"+port)
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	var said bytes.Buffer
	addresses := []string{"127.0.0.1"}
	forwarder, err := portforward.NewOnAddresses(dialer, addresses, ports, stop, ready, &said, os.Stderr)
	if err != nil {
		fail(err)
	}
	go func() {
		<-ready
		forwarded, err := forwarder.GetPorts()
		if err != nil {
			fail(err)
		}
		for _, port := range forwarded {
			fmt.Println(port.Local, port.Remote)
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	if err := forwarder.ForwardPorts(); err != nil {
		fail(err)
	}
}

func newDialer(transport, target string) (httpstream.Dialer, error) {
	parsed, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	if transport == "websocket" {
		return portforward.NewSPDYOverWebsocketDialer(parsed, restConfig())
	}
	roundTripper, upgrader, err := spdy.RoundTripperFor(restConfig())
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: roundTripper}
	return spdy.NewDialer(upgrader, client, http.MethodPost, parsed), nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(failed)
}
