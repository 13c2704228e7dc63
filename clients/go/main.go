// Draws an image from a back end in Go.
//
//	go run . -server http://127.0.0.1:7100 -size 256 -seed 7 "a small zunin on the left, snow" zunin.png
//
// REVERIE_TLS_AUTHORITIES names the authorities (PEM) of an https:// address, and REVERIE_API_KEY is the key. Ctrl-C cancels the call.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/signal"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	generation "reverie.example/draw/gen/reverie/generation/v1"
)

// Calls at most, the first included.
const attempts = 4

// The library takes 4 MiB unless told otherwise, and an image may have more.
const largestMessage = 256 << 20

func main() {
	server := flag.String("server", "http://127.0.0.1:7100", "where the mesh listens")
	size := flag.Uint("size", 0, "side of the image, pixels; 0 for the model's largest")
	seed := flag.Int64("seed", -1, "seed; -1 for one that the mesh chooses")
	timeout := flag.Duration("timeout", time.Minute, "how long to wait for the image")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, `usage: draw [flags] "PROMPT" FILE`)
		os.Exit(2)
	}
	request := &generation.GenerateRequest{Prompt: flag.Arg(0)}
	if *size > 0 {
		side := uint32(*size)
		request.Size = &side
	}
	if *seed >= 0 {
		chosen := uint64(*seed)
		request.Seed = &chosen
	}
	// The mesh is told the deadline and of the end of the context: it stops in the middle of the image.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if err := run(ctx, *server, request, flag.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, server string, request *generation.GenerateRequest, file string) error {
	connection, err := connect(server)
	if err != nil {
		return err
	}
	defer connection.Close()
	if key := os.Getenv("REVERIE_API_KEY"); key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	image, err := draw(ctx, generation.NewGenerationServiceClient(connection), request)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, image.GetImage().GetData(), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s: seed %d\n", file, image.GetSeed())
	return nil
}

func connect(server string) (*grpc.ClientConn, error) {
	address, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if address.Scheme == "https" {
		config := &tls.Config{MinVersion: tls.VersionTLS13}
		if file := os.Getenv("REVERIE_TLS_AUTHORITIES"); file != "" {
			pem, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%s has no certificate", file)
			}
		}
		transport = credentials.NewTLS(config)
	}
	return grpc.NewClient(
		address.Host,
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largestMessage)),
	)
}

// draw gives the image. The same seed gives the same image, so a call may be repeated: one that ended with UNAVAILABLE, and one that ended with
// RESOURCE_EXHAUSTED and the time after which to try again. Without that time no retry helps.
func draw(
	ctx context.Context,
	client generation.GenerationServiceClient,
	request *generation.GenerateRequest,
) (*generation.GeneratedImage, error) {
	for attempt := 1; ; attempt++ {
		image, err := once(ctx, client, request)
		told := toldWait(err)
		isBusy := status.Code(err) == codes.ResourceExhausted && told > 0
		if err == nil || attempt == attempts || (status.Code(err) != codes.Unavailable && !isBusy) {
			return image, err
		}
		growing := time.Duration(float64(250*time.Millisecond<<(attempt-1)) * (0.5 + rand.Float64()))
		select {
		case <-time.After(max(growing, told)):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// toldWait is the time that the mesh names, or 0.
func toldWait(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			return retry.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

func once(
	ctx context.Context,
	client generation.GenerationServiceClient,
	request *generation.GenerateRequest,
) (*generation.GeneratedImage, error) {
	stream, err := client.Generate(ctx, request)
	if err != nil {
		return nil, err
	}
	var image *generation.GeneratedImage
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) && image != nil {
			return image, nil
		}
		if err != nil {
			return nil, err
		}
		if drawn := response.GetImage(); drawn != nil {
			image = drawn
		}
	}
}
