package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"
)

// publish is the raw form of a bridge: nats.go's own asynchronous publish, the bodies in memory. They have their ids, or the
// stream could not tell what it has already.
func publish(s spec) error {
	bodies, err := firstBodies(s)
	if err != nil {
		return err
	}
	list := make([]*natsgo.Msg, len(bodies))
	for i, body := range bodies {
		list[i] = natsgo.NewMsg(itemSubject(s.Stream))
		list[i].Data = body
		list[i].Header.Set(jetstream.MsgIDHeader, gjson.GetBytes(body, "id").String())
	}
	conn, err := natsgo.Connect(s.URL)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return err
	}
	begun := time.Now()
	acks := make([]jetstream.PubAckFuture, len(list))
	for i, msg := range list {
		if acks[i], err = js.PublishMsgAsync(msg, jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return err
		}
	}
	report{Events: s.Want, Distinct: s.Want, Seconds: time.Since(begun).Seconds()}.print()
	return nil
}

// publishStock publishes with watermill-nats, which waits for each ack.
func publishStock(s spec) error {
	bodies, err := firstBodies(s)
	if err != nil {
		return err
	}
	publisher, err := wmnats.NewPublisher(wmnats.PublisherConfig{URL: s.URL, JetStream: wmnats.JetStreamConfig{TrackMsgID: true}}, nil)
	if err != nil {
		return err
	}
	begun := time.Now()
	for _, body := range bodies {
		msg := message.NewMessageWithContext(context.Background(), gjson.GetBytes(body, "id").String(), body)
		if err := publisher.Publish(itemSubject(s.Stream), msg); err != nil {
			return err
		}
	}
	report{Events: s.Want, Distinct: s.Want, Seconds: time.Since(begun).Seconds()}.print()
	return publisher.Close()
}

func itemSubject(stream string) string { return stream + "." + entity + ".UPDATE" }

// firstBodies reads the first of the bodies, as many as are wanted.
func firstBodies(s spec) ([][]byte, error) {
	text, err := os.ReadFile(s.Bodies)
	if err != nil {
		return nil, fmt.Errorf("read bodies: %w", err)
	}
	bodies := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	if int64(len(bodies)) < s.Want {
		return nil, fmt.Errorf("read bodies: %d are wanted, there are %d", s.Want, len(bodies))
	}
	return bodies[:s.Want], nil
}
