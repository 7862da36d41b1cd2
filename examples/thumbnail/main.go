// Command thumbnail is a worker that makes images smaller. README.md beside it shows the whole way from a picture to its
// thumbnail.
package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"image"
	"image/color"
	_ "image/gif"
	"image/jpeg"
	_ "image/png"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/posta-tasks/posta"
	"github.com/posta-tasks/posta/actions"
	"github.com/posta-tasks/posta/client"
)

// picture is the payload. The image, in GIF, JPEG or PNG, is base64 in the JSON.
type picture struct {
	Image []byte `json:"image"`
	Width int    `json:"width"` // of the thumbnail, in pixels; 0: 200
}

// thumbnail is the result: a JPEG.
type thumbnail struct {
	Image  []byte `json:"image"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// maxPixels limits what an image takes in memory, whatever its file says.
const maxPixels = 50_000_000

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	w := client.Worker{
		Addr: cmp.Or(os.Getenv("POSTA_TO"), "127.0.0.1:9000"), Token: os.Getenv("POSTA_TOKEN"), Slots: 2,
		Actions: []actions.Action{posta.Action("thumbnail", makeThumbnail)}, Logger: slog.Default(),
	}
	if err := w.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "thumbnail: error:", err)
		os.Exit(1)
	}
}

// makeThumbnail is the action. An image that cannot be read fails its task for good: another attempt would find the same.
func makeThumbnail(ctx context.Context, in picture) (thumbnail, error) {
	config, _, err := image.DecodeConfig(bytes.NewReader(in.Image))
	if err != nil {
		return thumbnail{}, posta.Permanent(fmt.Errorf("not a GIF, JPEG or PNG: %w", err))
	}
	if config.Width*config.Height > maxPixels {
		return thumbnail{}, posta.Permanent(fmt.Errorf("the image has %d × %d pixels, more than %d", config.Width, config.Height, maxPixels))
	}
	whole, _, err := image.Decode(bytes.NewReader(in.Image))
	if err != nil {
		return thumbnail{}, posta.Permanent(fmt.Errorf("the image is damaged: %w", err))
	}
	posta.Progress(ctx, 10, "read")
	small, err := shrink(ctx, whole, cmp.Or(in.Width, 200))
	if err != nil {
		return thumbnail{}, err
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, small, &jpeg.Options{Quality: 85}); err != nil {
		return thumbnail{}, err
	}
	return thumbnail{Image: out.Bytes(), Width: small.Bounds().Dx(), Height: small.Bounds().Dy()}, nil
}

// shrink returns an image of at most this width. Each pixel is the average of the pixels in its place. It ends with ctx, at
// the task's timeout or when the task is cancelled, and says how far it is.
func shrink(ctx context.Context, from image.Image, width int) (image.Image, error) {
	b := from.Bounds()
	width = max(1, min(width, b.Dx()))
	height := max(1, b.Dy()*width/b.Dx())
	to := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		posta.Progress(ctx, float64(10+90*y/height), fmt.Sprintf("row %d of %d", y, height))
		for x := range width {
			place := image.Rect(b.Min.X+x*b.Dx()/width, b.Min.Y+y*b.Dy()/height, b.Min.X+(x+1)*b.Dx()/width, b.Min.Y+(y+1)*b.Dy()/height)
			to.Set(x, y, average(from, place))
		}
	}
	return to, nil
}

func average(from image.Image, place image.Rectangle) color.Color {
	var red, green, blue, n uint64
	for y := place.Min.Y; y < place.Max.Y; y++ {
		for x := place.Min.X; x < place.Max.X; x++ {
			r, g, b, _ := from.At(x, y).RGBA()
			red, green, blue, n = red+uint64(r), green+uint64(g), blue+uint64(b), n+1
		}
	}
	n = max(n, 1)
	return color.RGBA64{R: uint16(red / n), G: uint16(green / n), B: uint16(blue / n), A: 0xffff}
}
