// descant.v1.GenerationService.
#ifndef DESCANT_SERVER_GENERATION_SERVICE_H_
#define DESCANT_SERVER_GENERATION_SERVICE_H_

#include "descant/v1/generation.grpc.pb.h"
#include "server/edge_context.h"

namespace descant {

// Holds no logic: each RPC is a call object or a task of the front pool.
class GenerationService final : public v1::GenerationService::CallbackService {
 public:
  explicit GenerationService(EdgeContext* edge) : edge_(edge) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context,
                                     const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) override;
  grpc::ServerWriteReactor<v1::GenerateStreamResponse>* GenerateStream(
      grpc::CallbackServerContext* context,
      const v1::GenerateStreamRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(
      grpc::CallbackServerContext* context,
      const v1::DetokenizeRequest* request,
      v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context,
                                     const v1::GetModelRequest* request,
                                     v1::GetModelResponse* response) override;

 private:
  EdgeContext* const edge_;
};

}  // namespace descant

#endif  // DESCANT_SERVER_GENERATION_SERVICE_H_
