package holdfast

import "encoding/json"

// EntityCore is what the answers of pay and check_sms_key have in common, in
// the order they have in common: everything up to the payer. Behind it the two
// answers order their keys differently, so each lists its own.
// Source: seed, pay and check_sms_key, samples and tables.
//
// Sums are in major units with two decimals. Times are epoch milliseconds. A
// nil pointer, an empty [Decimal] and an empty json.RawMessage are null.
type EntityCore struct {
	ID              Integer         `json:"id"` // the paymentId of check_sms_key; fits 32 bits signed
	UUID            string          `json:"uuid"`
	ProcessorKey    *string         `json:"processorKey"` // the processing centre's reference
	MerchantID      Integer         `json:"merchantId"`
	Merchant        json.RawMessage `json:"merchant"`
	MerchantTransID string          `json:"merchantTransId"` // the merchant's shop_transaction_id
	InitialSum      Decimal         `json:"initialSum"`      // what was asked for
	TotalSum        Decimal         `json:"totalSum"`        // follows the confirmed amount after a partial capture
	SplittedSum     Decimal         `json:"splittedSum"`
	Currency        string          `json:"currency"`
	ConvertSum      Decimal         `json:"convertSum"`
	ConvertRate     Decimal         `json:"convertRate"`
	ConvertCurrency *string         `json:"convertCurrency"`
	SelectedMethod  *string         `json:"selectedMethod"`
	CreateTime      int64           `json:"createTime"`
	ExpireTime      int64           `json:"expireTime"`
	PeyedTime       *int64          `json:"peyedTime"` // spelt so by the seed
	ExpiredHoldTime *int64          `json:"expiredHoldTime"`
	MerCreateTime   int64           `json:"merCreateTime"` // UTC time of day of init_time in milliseconds, without the date
	Description     string          `json:"description"`
	AutoCapture     bool            `json:"autoCapture"`
	WithoutSite     bool            `json:"withoutSite"`
	IsTest          bool            `json:"isTest"`
	RefundLocked    bool            `json:"refundLocked"`
	ReturnURL       string          `json:"returnUrl"`
	RedirectURL     string          `json:"redirectUrl"` // where to send the payer next
	Details         *Details        `json:"details"`
	Hold            json.RawMessage `json:"hold"`
	PayMethods      []PayMethod     `json:"payMethods"` // never nil
	Status          string          `json:"status"`
	Basket          *[]BasketItem   `json:"basket"`
	User            *User           `json:"user"`
}

// PaymentEntity is the data of pay's answer.
type PaymentEntity struct {
	EntityCore
	Language      string  `json:"language"`
	TariffID      Integer `json:"tariffId"`
	Fee           Decimal `json:"fee"` // four decimals, see [DecimalOf4]; null until it is known
	RefundedSum   Decimal `json:"refundedSum"`
	RiskLevel     Integer `json:"riskLevel"` // in the seed's table, not in its sample
	BankCode      string  `json:"bankCode"`
	CardInputType string  `json:"cardInputType"` // merchant_site or octo_page
	Tag           *string `json:"tag"`
	Test          bool    `json:"test"`
}

// ExtendedEntity is the data of check_sms_key's answer.
type ExtendedEntity struct {
	EntityCore
	Airline                   json.RawMessage `json:"airline"`
	Language                  string          `json:"language"`
	TariffID                  Integer         `json:"tariffId"`
	Fee                       Decimal         `json:"fee"`         // four decimals, see [DecimalOf4]
	TransferSum               Decimal         `json:"transferSum"` // four decimals: the sum less the fee
	RefundedSum               Decimal         `json:"refundedSum"`
	ProvCode                  string          `json:"provCode"`
	OptionalData              *string         `json:"optionalData"`
	ForConsideration          bool            `json:"forConsideration"`
	RiskLevel                 Integer         `json:"riskLevel"`
	AuditedAt                 *int64          `json:"auditedAt"`
	AuditorID                 *Integer        `json:"auditorId"`
	BankCode                  string          `json:"bankCode"`
	MerchantCardID            *string         `json:"merchantCardId"`
	ProcessingReference       string          `json:"processingReference"`
	RequestProcessingStatus   *string         `json:"requestProcessingStatus"`
	RequestProcessingTryCount Integer         `json:"requestProcessingTryCount"`
	CurrentStep               *string         `json:"currentStep"`
	Tag                       *string         `json:"tag"`
	TspID                     *Integer        `json:"tspId"`
	CardInputType             string          `json:"cardInputType"` // merchant_site or octo_page
	RedirectTimeout           *int64          `json:"redirectTimeout"`
	MerchantStatus            *string         `json:"merchantStatus"`
	FiscalDetails             *FiscalDetails  `json:"fiscalDetails"`
	ShowButtonSaveCard        *bool           `json:"showButtonSaveCard"`
	Test                      bool            `json:"test"`
}

// Details says how the card is being charged. pay's sample has cardInfo and
// transType, check_sms_key's has transType, commission and cardType.
type Details struct {
	CardInfo   *CardInfo `json:"cardInfo,omitzero"`
	TransType  string    `json:"transType"` // SMS for Uzcard and Humo
	Commission string    `json:"commission,omitzero"`
	CardType   string    `json:"cardType,omitzero"`
}

// CardInfo is what may be shown of a card.
type CardInfo struct {
	First6            string  `json:"first6"`
	Last4             string  `json:"last4"`
	IssuerCountryCode *string `json:"issuerCountryCode"` // ISO 3166, two letters
	CardHolder        *string `json:"cardHolder"`
	SaveToken         *string `json:"saveToken"`
}

// PayMethod is a method that this payment allows.
type PayMethod struct {
	Only   *string `json:"only"`
	Method string  `json:"method"`
}

// User is the payer as [UserData] described him, in the entity's key order.
type User struct {
	Email  string `json:"email"`
	Phone  string `json:"phone"`
	UserID string `json:"user_id"`
}

// FiscalDetails is what the fiscal operator said about the receipt.
type FiscalDetails struct {
	FiscalClassifierIDs []Integer `json:"fiscalClassifierIds"` // never nil
	Status              string    `json:"status"`
	ErrorCode           string    `json:"errorCode"`
	Message             string    `json:"message"`
	CreateTime          Text      `json:"createTime"` // epoch milliseconds as a string: the seed's sample against its table
}
