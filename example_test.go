package holdfast_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"

	"holdfast"
)

// A two-stage payment with the payer on the gateway's page, and the decision
// by set_accept.
func ExampleClient() {
	shop := &holdfast.Client{BaseURL: "https://pay.example.uz", ShopID: 123, Secret: holdfast.Secret(os.Getenv("OCTO_SECRET"))}
	ctx := context.Background()

	state, err := shop.Prepare(ctx, holdfast.PrepareRequest{
		ShopTransactionID: "booking-4711",
		AutoCapture:       new(false),
		TotalSum:          holdfast.DecimalOf(100_000), // 1000.00
		Currency:          "UZS",
		Description:       "Two nights",
		ReturnURL:         "https://shop.example.uz/booking/4711",
		Language:          "uz",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("send the payer to", state.PayURL)

	// Later, when the booking is firm, and for less than was held:
	_, err = shop.Accept(ctx, holdfast.AcceptRequest{
		PaymentUUID:  state.PaymentUUID,
		AcceptStatus: holdfast.AcceptCapture,
		FinalAmount:  holdfast.DecimalOf(80_000),
	})
	var failure *holdfast.Error
	if errors.As(err, &failure) && failure.Code == holdfast.CodeOutcomeUnknown {
		state, err = shop.Status(ctx, "booking-4711")
	}
	fmt.Println(state, err)
}

// The decision as the answer to a notification.
func ExampleNotificationHandler() {
	http.Handle("/octo/notify", holdfast.NotificationHandler(os.Getenv("OCTO_UNIQUE_KEY"),
		func(ctx context.Context, n holdfast.Notification) (holdfast.NotificationAnswer, error) {
			if n.Status != holdfast.StatusWaitingForCapture {
				return holdfast.NotificationAnswer{}, nil // noted; there is nothing to decide
			}
			return holdfast.NotificationAnswer{AcceptStatus: holdfast.AcceptCapture}, nil
		}))
}

func ExampleDecimal_Minor() {
	minor, err := holdfast.Decimal("437278.660").Minor()
	fmt.Println(minor, err)
	fmt.Println(holdfast.DecimalOf(minor))
	// Output:
	// 43727866 <nil>
	// 437278.66
}
